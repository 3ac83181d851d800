"""What systemd gives a service, given by the test: sockets, a watchdog, memory's pressure."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Collection, Generator, Iterator
from pathlib import Path

import pytest

import certeus
from support.daemon import Daemon, running, scratch_dir
from support.ports import free_port
from support.waiting import wait_until

pytestmark = pytest.mark.integration

AWAY = '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n'
HUNG_S = 15.0


class Activated(Daemon):
    """A daemon whose sockets another process holds."""

    def __init__(
        self,
        root: Path,
        ends: list[socket.socket],
        config: str = AWAY,
        doors: Collection[str] = (),
    ) -> None:
        super().__init__(root, config, doors=doors)
        self._ends = ends

    def start(self, *, ready: bool = True, timeout: float = 60.0) -> Daemon:
        # The descriptors must be 3, 4, ..., and LISTEN_PID the pid that exec keeps.
        moved = " ".join(f"{3 + at}<&{end.fileno()}" for at, end in enumerate(self._ends))
        words = " ".join(f"'{word}'" for word in self.command())
        script = f"LISTEN_PID=$$ LISTEN_FDS={len(self._ends)} exec {words} {moved}"
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                ["bash", "-c", script], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                env=self.env, pass_fds=[end.fileno() for end in self._ends],
            )  # fmt: skip
        if ready:
            wait_until("daemon that takes events", self.takes_events, timeout)
        return self


@contextlib.contextmanager
def listening(path: Path, kind: socket.SocketKind) -> Generator[socket.socket]:
    with socket.socket(socket.AF_UNIX, kind) as end:
        # Above those that the shell moves them to.
        high = socket.socket(fileno=os.dup2(end.fileno(), 100 + end.fileno()))
        high.bind(str(path))
        if kind != socket.SOCK_DGRAM:
            high.listen(64)
        with high:
            yield high


def test_who_connects_between_two_lives_of_the_daemon_waits_for_the_second() -> None:
    with contextlib.ExitStack() as stack:
        root = stack.enter_context(scratch_dir())
        (root / "run").mkdir()
        ingest, control = root / "run" / "ingest.sock", root / "run" / "control.sock"
        daemon = Activated(root, [
            stack.enter_context(listening(ingest, socket.SOCK_SEQPACKET)),
            stack.enter_context(listening(control, socket.SOCK_STREAM)),
        ])  # fmt: skip
        stack.callback(daemon.clean_up)
        daemon.start()
        inodes = [path.stat().st_ino for path in (ingest, control)]
        assert daemon.stop() == 0
        status = subprocess.Popen(
            [sys.executable, "-m", "certeusd.cli", "--runtime-dir", str(root / "run"), "status"],
            stdout=subprocess.DEVNULL,
        )
        program = f"import certeus; certeus.connect({str(ingest)!r}, source='early').close()"
        client = subprocess.Popen([sys.executable, "-c", program])
        daemon.start()
        assert (status.wait(30), client.wait(30)) == (0, 0)
        assert daemon.stop() == 0
        # They are not ours to remove.
        assert [path.stat().st_ino for path in (ingest, control)] == inodes


def test_syslog_waits_between_two_lives_of_the_daemon_for_the_second() -> None:
    with contextlib.ExitStack() as stack:
        root = stack.enter_context(scratch_dir())
        (root / "run").mkdir()
        path, port = root / "run" / "syslog.sock", free_port()
        unix = stack.enter_context(listening(path, socket.SOCK_DGRAM))
        udp = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        udp.bind(("127.0.0.1", port))
        ends = [unix, socket.socket(fileno=os.dup2(udp.fileno(), 100 + udp.fileno()))]
        config = f'{AWAY}[syslog]\nudp = "127.0.0.1:{port}"\n'
        daemon = Activated(root, ends, config, ["syslog"])
        stack.callback(daemon.clean_up)
        daemon.start()
        assert daemon.stop() == 0
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"<13>by path", str(path))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
            end.sendto(b"<13>by port", ("127.0.0.1", port))
        daemon.start()
        wait_until("both", lambda: daemon.status()["durable_seq"] == 2)
        assert path.is_socket()
        assert daemon.stop() == 0
        ends[1].close()


def test_a_socket_that_nothing_is_configured_for_is_told(tmp_path: Path) -> None:
    with (
        scratch_dir() as root,
        listening(tmp_path / "stray.sock", socket.SOCK_STREAM) as stray,
        contextlib.closing(contextlib.ExitStack()) as stack,
    ):
        daemon = Activated(root, [stray])
        stack.callback(daemon.clean_up)
        daemon.start()
        assert "socket_not_used" in daemon.log_path.read_text()
        assert daemon.stop() == 0


@pytest.fixture
def notified(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        end.bind(str(tmp_path / "notify"))
        yield end


def fed_within(end: socket.socket, seconds: float) -> bool:
    """Whether the watchdog is fed from now on within so many seconds."""
    end.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            end.recv(4096)
    return told_within(end, b"WATCHDOG=1", seconds)


def told_within(end: socket.socket, line: bytes, seconds: float) -> bool:
    """Whether systemd is told `line` within so many seconds."""
    end.settimeout(seconds)
    with contextlib.suppress(TimeoutError):
        while True:
            if line in end.recv(4096):
                return True
    return False


def test_the_watchdog_is_fed_while_everybody_lives_and_only_then(notified: socket.socket) -> None:
    env = {"NOTIFY_SOCKET": notified.getsockname(), "WATCHDOG_USEC": "30000000"}
    with running(AWAY, env) as daemon:
        assert fed_within(notified, 5.0)
        daemon.kill("worker", signal.SIGSTOP)
        wait_until("its line", lambda: "watchdog_not_fed" in daemon.log_tail(), HUNG_S + 15.0)
        assert not fed_within(notified, 3.0)
        daemon.kill("worker", signal.SIGCONT)
        assert told_within(notified, b"STATUS=degraded", 15.0), "its line is taken back"
        assert fed_within(notified, 5.0)
        assert daemon.stop() == 0


def test_without_a_watchdog_nobody_feeds_one(notified: socket.socket) -> None:
    with running(AWAY, {"NOTIFY_SOCKET": notified.getsockname()}) as daemon:
        assert not fed_within(notified, 3.0)
        assert daemon.stop() == 0


def test_memory_that_is_short_is_told_until_it_is_not(tmp_path: Path) -> None:
    file = tmp_path / "memory.pressure"
    file.write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")
    with running(AWAY, {"MEMORY_PRESSURE_WATCH": str(file)}) as daemon:

        def told() -> bool:
            return "memory-pressure" in {one["code"] for one in daemon.status()["reasons"]}

        assert not told()
        file.write_text("some avg10=42.00 avg60=0.00 avg300=0.00 total=0\n")
        wait_until("the reason", told)
        with certeus.connect(daemon.ingest, source="short") as producer:
            producer.wait_durable(producer.append("t", {"n": 1}), timeout=30.0)
        file.write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n")
        wait_until("no reason", lambda: not told())
        assert daemon.stop() == 0
