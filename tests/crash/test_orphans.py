"""A child whose supervisor is gone, stopped or waking late, does no harm to those after it."""

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections.abc import Generator

import pytest

import certeus
from certeusd import channel as channels
from certeusd.board import BOARD_BYTES
from certeusd.channel import Channel, Ready, Start
from certeusd.config import Config
from certeusd.exits import Exit
from support import processes
from support.daemon import Daemon, running
from support.waiting import wait_until

pytestmark = [pytest.mark.crash, pytest.mark.integration]

NO_POSTGRES = '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n'
PATIENCE_S = 60.0


def append(daemon: Daemon, numbers: range) -> None:
    with certeus.connect(daemon.ingest, source="orphans", timeout=PATIENCE_S) as producer:
        producer.wait_durable(producer.append_many("t", list(numbers)), timeout=PATIENCE_S)


def logged(daemon: Daemon) -> list[int]:
    lines = daemon.certeus("log", "export").stdout.splitlines()
    return [int(line.split(b'"data":')[1].split(b"}")[0].strip(b" ,")) for line in lines]


def reasons(daemon: Daemon) -> dict[str, str]:
    with contextlib.suppress(OSError):
        return {one["code"]: one["what"] for one in daemon.status()["reasons"]}
    return {}


def all_ready(daemon: Daemon) -> bool:
    status = daemon.status()
    return all(one["ready"] for one in (*status["processes"], *status["workers"]))


@pytest.mark.timeout(300)
def test_a_stopped_child_ends_with_its_supervisor_and_the_next_one_goes_on() -> None:
    with running(NO_POSTGRES) as daemon:
        append(daemon, range(100))
        # A child asks the kernel for it in its first moments.
        wait_until("children at work", lambda: all_ready(daemon), PATIENCE_S)
        held = [
            processes.Process(pid)
            for role in ("log", "worker", "flush")
            for pid in processes.find(daemon, role)
        ]
        assert len(held) >= 3
        ends = [os.pidfd_open(one.pid) for one in held]
        for one in held:
            one.send(signal.SIGSTOP)
        daemon.kill("supervisor")
        for one, end in zip(held, ends, strict=True):
            # A signal that nobody can hold back, also not one who stands still.
            assert select.select([end], [], [], PATIENCE_S)[0], f"{one.pid} outlives its supervisor"
            os.close(end)
            one.close()
        daemon.start()
        append(daemon, range(100, 200))
        assert logged(daemon) == list(range(200))
        assert daemon.stop() == 0


@contextlib.contextmanager
def orphan(daemon: Daemon) -> Generator[tuple["subprocess.Popen[bytes]", Channel]]:
    """A log writer of the daemon's state directory that no supervisor of now has started."""
    ours, theirs = channels.pair()
    ours.setblocking(True)
    board, bell = os.memfd_create("board"), os.eventfd(0)
    os.ftruncate(board, BOARD_BYTES)
    process = subprocess.Popen(
        [sys.executable, "-m", "certeusd.log", "--channel", str(theirs.fileno())],
        pass_fds=[theirs.fileno()], stderr=subprocess.DEVNULL,
    )  # fmt: skip
    theirs.close()
    try:
        places = (str(daemon.state_dir), str(daemon.runtime_dir))
        ours.send(Start("log", 0, Config(), *places, "info", BOARD_BYTES), [board, bell])
        while (received := ours.receive()) is not None and not isinstance(received[0], Ready):
            pass
        assert received is not None, "it ended"
        yield process, ours
    finally:
        process.kill()
        process.wait()
        ours.close()
        os.close(board)
        os.close(bell)


@pytest.mark.timeout(300)
def test_a_daemon_waits_for_an_orphaned_log_writer_and_names_it() -> None:
    with running(NO_POSTGRES) as daemon:
        append(daemon, range(100))
        assert daemon.stop() == 0
        with orphan(daemon) as (process, channel):
            process.send_signal(signal.SIGSTOP)
            daemon.start(ready=False)
            wait_until(
                "the lock's holder is named",
                lambda: f"pid {process.pid}" in reasons(daemon).get("waiting-for-lock", ""),
                PATIENCE_S,
            )
            files = {path.name: path.stat().st_mtime_ns for path in daemon.state_dir.glob("log/0*")}
            assert daemon.status()["state"] == "recovering"
            # Its supervisor is gone; when it wakes, the end of its channel is all that it sees.
            channel.close()
            now = {path.name: path.stat().st_mtime_ns for path in daemon.state_dir.glob("log/0*")}
            assert now == files, "nobody writes while it stands still"
            process.send_signal(signal.SIGCONT)
            assert process.wait(PATIENCE_S) == Exit.OK
        wait_until("daemon that takes events", daemon.takes_events, PATIENCE_S)
        append(daemon, range(100, 200))
        assert "waiting-for-lock" not in reasons(daemon)
        assert logged(daemon) == list(range(200))
        assert daemon.stop() == 0
