"""What an operator does to a running service: restart, reload, hang, activation, credentials.

Producers append throughout where it is said that none fails. The tests follow each other.
"""

import contextlib
import json
import subprocess
import threading
from collections.abc import Generator

import pytest

from support.systemd_box import SCRIPT, Box, certeus, is_active_again_after
from support.waiting import wait_until

UNIT = "certeus.service"
SOCKETS = ("certeus.socket", "certeus-control.socket")
CONFIG = "etc/certeus/certeus.toml"

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

APPENDER = ["/opt/certeus/bin/python", "/mnt/support/steady_appender.py"]


class Appender:
    """A program that appends and connects meanwhile; `wait_for_more`: until it has done both."""

    def __init__(self, box: Box) -> None:
        self._program = subprocess.Popen(
            [str(SCRIPT), "exec", "-n", box.name, "--", *APPENDER],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self._lines = list[str]()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._program.stdout is not None
        self._lines.extend(self._program.stdout)

    def wait_for_more(self) -> None:
        before = len(self._lines)
        wait_until("appends", lambda: len(self._lines) > before or self._program.poll() is not None)

    def stop(self) -> str:
        """What it said, if it failed."""
        assert self._program.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._program.stdin.write("stop\n")
            self._program.stdin.flush()
        code = self._program.wait(120)
        self._reader.join()
        for stream in (self._program.stdin, self._program.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        return "" if code == 0 else "".join(self._lines[-30:])


@contextlib.contextmanager
def appending(box: Box) -> Generator[Appender]:
    """That one append or one connect fails, fails the test."""
    program = Appender(box)
    try:
        program.wait_for_more()
        yield program
        program.wait_for_more()
    finally:
        failed = program.stop()
    assert not failed, failed + box.journal(UNIT)


def pids(box: Box) -> dict[str, int]:
    status = json.loads(certeus(box, "status", "--json"))
    return {one["name"]: one["pid"] for one in [*status["processes"], *status["workers"]]}


def test_sockets_are_systemds(box: Box) -> None:
    for unit in SOCKETS:
        assert box.show(unit, "ActiveState")["ActiveState"] == "active"
    assert "socket_not_used" not in box.journal(UNIT)


def test_a_restart_fails_no_append_and_no_connect(box: Box) -> None:
    with appending(box) as program:
        for _ in range(3):
            box.run("systemctl", "restart", UNIT)
            program.wait_for_more()
    certeus(box, "wait", "--flushed", "--timeout", "60")


def test_a_good_reload_holds_when_it_returns_and_fails_no_append(box: Box) -> None:
    before = pids(box)
    with appending(box):
        (box.root / CONFIG).write_text("[limits]\ndepth_max = 32\n[postgres]\nbatch_ms = 20\n")
        box.run("systemctl", "reload", UNIT)
        after = pids(box)
    assert after["log"] == before["log"]
    assert after["worker-0"] != before["worker-0"]
    assert after["flush"] != before["flush"]
    assert "configuration_reloaded" in box.journal(UNIT)


def test_a_bad_reload_fails_says_why_and_changes_nothing(box: Box) -> None:
    before = pids(box)
    (box.root / CONFIG).write_text("[limits]\ndepth = 32\n")
    told = box.run("sh", "-c", f"systemctl reload {UNIT}; echo code $?", check=False)
    assert "code 1" in told, told
    assert "nearest: limits.depth_max" in box.journal(UNIT)
    assert box.show(UNIT, "ActiveState")["ActiveState"] == "active"
    assert pids(box) == before
    (box.root / CONFIG).unlink()
    box.run("systemctl", "reload", UNIT)


def test_a_service_that_hangs_is_started_again_by_the_watchdog(box: Box) -> None:
    drop_in = box.root / "run/systemd/system/certeus.service.d/watchdog.conf"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text("[Service]\nWatchdogSec=3s\n")
    box.run("systemctl", "daemon-reload")
    box.run("systemctl", "restart", UNIT)
    old = box.show(UNIT, "MainPID")["MainPID"]
    before = json.loads(certeus(box, "append", "--json", "-", stdin='{"before":"the hang"}\n'))
    box.run("kill", "-STOP", str(pids(box)["worker-0"]))
    box.wait_for(lambda: is_active_again_after(box, UNIT, old), UNIT)
    assert "watchdog" in box.run("journalctl", "-u", UNIT, "--no-pager").lower()
    assert json.loads(certeus(box, "status", "--json"))["durable_seq"] >= before["last_seq"]
    drop_in.unlink()
    box.run("systemctl", "daemon-reload")
    box.run("systemctl", "restart", UNIT)


def test_a_secret_is_a_credential_of_the_unit(box: Box) -> None:
    store = box.root / "etc/credstore"
    store.mkdir(mode=0o700, exist_ok=True)
    (store / "certeus.postgres-password").write_text("geheim\n")
    box.run("systemctl", "restart", UNIT)
    given = box.run("cat", f"/run/credentials/{UNIT}/postgres-password")
    assert given == "geheim\n"
    (store / "certeus.postgres-password").unlink()
    box.run("systemctl", "restart", UNIT)


def test_who_is_named_as_a_reader_may_look_and_no_more(box: Box) -> None:
    box.run("useradd", "--system", "watcher")
    shown = "runuser -u watcher -- /opt/certeus/bin/certeus {}; echo code $?"

    def as_watcher(verb: str) -> str:
        return box.run("sh", "-c", shown.format(verb), check=False)

    assert "code 77" in as_watcher("status")
    (box.root / CONFIG).write_text('[control]\nreaders = ["watcher"]\n')
    box.run("systemctl", "reload", UNIT)
    assert "code 0" in as_watcher("status")
    told = as_watcher("retry")
    assert "code 77" in told
    assert "this is for operators" in told
    (box.root / CONFIG).unlink()
    box.run("systemctl", "reload", UNIT)
    assert "code 77" in as_watcher("status")


def test_a_stop_closes_the_sockets_and_nobody_starts_it_by_connecting(box: Box) -> None:
    box.run("systemctl", "stop", UNIT)
    for unit in (UNIT, *SOCKETS):
        assert box.show(unit, "ActiveState")["ActiveState"] == "inactive", unit
    told = box.run("sh", "-c", "/opt/certeus/bin/certeus status; echo code $?", check=False)
    assert "code 69" in told
    assert box.show(UNIT, "ActiveState")["ActiveState"] == "inactive"


def test_the_first_who_connects_starts_the_service(box: Box) -> None:
    box.run("systemctl", "start", *SOCKETS)
    assert box.show(UNIT, "ActiveState")["ActiveState"] == "inactive"
    answer = json.loads(certeus(box, "append", "--json", "-", stdin='{"n":1}\n'))
    assert answer["appended"] == 1
    box.wait_for(lambda: box.show(UNIT, "ActiveState")["ActiveState"] == "active", UNIT)
