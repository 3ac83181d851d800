"""What an operator does to a running service: restart, reload, hang, activation, credentials.

Producers append throughout where it is said that none fails. The tests follow each other.
"""

import json

import pytest

from support.appending import appending
from support.systemd_box import CERTEUS, UNIT, Box, certeus, is_active_again_after

SOCKETS = ("certeus.socket", "certeus-control.socket", "certeus-api.socket")
CONFIG = "etc/certeus/certeus.toml"

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


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
    (box.root / CONFIG).write_text("")
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
    shown = f"runuser -u watcher -- {CERTEUS} {{}}; echo code $?"

    def as_watcher(verb: str) -> str:
        return box.run("sh", "-c", shown.format(verb), check=False)

    assert "code 77" in as_watcher("status")
    (box.root / CONFIG).write_text('[control]\nreaders = ["watcher"]\n')
    box.run("systemctl", "reload", UNIT)
    assert "code 0" in as_watcher("status")
    told = as_watcher("retry")
    assert "code 77" in told
    assert "this is for operators" in told
    (box.root / CONFIG).write_text("")
    box.run("systemctl", "reload", UNIT)
    assert "code 77" in as_watcher("status")


def test_a_stop_closes_the_sockets_and_nobody_starts_it_by_connecting(box: Box) -> None:
    box.run("systemctl", "stop", UNIT)
    for unit in (UNIT, *SOCKETS):
        assert box.show(unit, "ActiveState")["ActiveState"] == "inactive", unit
    told = box.run("sh", "-c", f"{CERTEUS} status; echo code $?", check=False)
    assert "code 69" in told
    assert box.show(UNIT, "ActiveState")["ActiveState"] == "inactive"


def test_the_first_who_connects_starts_the_service(box: Box) -> None:
    box.run("systemctl", "start", *SOCKETS)
    assert box.show(UNIT, "ActiveState")["ActiveState"] == "inactive"
    answer = json.loads(certeus(box, "append", "--json", "-", stdin='{"n":1}\n'))
    assert answer["appended"] == 1
    box.wait_for(lambda: box.show(UNIT, "ActiveState")["ActiveState"] == "active", UNIT)
