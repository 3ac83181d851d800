"""The unit under a real systemd: users, directories, start, kill -9, stop.

The tests follow each other, and each leaves the service running unless its name says otherwise.
"""

import json

import pytest

from support.systemd_box import UNIT, Box, certeus, is_active_again_after

EXPOSURE_TENTHS_MAX = 15

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


def test_installed_units_give_systemd_nothing_to_complain_about(box: Box) -> None:
    assert box.run("systemd-analyze", "verify", UNIT) == ""
    assert box.run("systemd-tmpfiles", "--create", "/usr/lib/tmpfiles.d/certeus.conf") == ""


def test_unit_is_hardened_as_far_as_its_work_allows(box: Box) -> None:
    box.run("systemd-analyze", "security", f"--threshold={EXPOSURE_TENTHS_MAX}", UNIT)


def test_unit_is_active_once_the_daemon_says_that_it_is_ready(box: Box) -> None:
    state = box.show(UNIT, "ActiveState", "StatusText", "NRestarts")
    assert state["ActiveState"] == "active", box.journal(UNIT)
    assert state["StatusText"]
    assert state["NRestarts"] == "0"
    answer = json.loads(certeus(box, "status", "--json"))
    assert answer["state"] in ("ready", "degraded")


def test_appended_lines_are_rows_of_the_embedded_database(box: Box) -> None:
    lines = "".join(f'{{"n":{number}}}\n' for number in range(100))
    answer = json.loads(certeus(box, "append", "--type", "e2e", "--json", "-", stdin=lines))
    assert answer["appended"] == 100
    certeus(box, "wait", "--flushed", "--timeout", "60")
    status = json.loads(certeus(box, "status", "--json"))
    assert status["flushed_seq"] >= answer["last_seq"]


def test_kill_9_is_followed_by_a_restart_that_has_everything(box: Box) -> None:
    before = json.loads(certeus(box, "status", "--json"))["durable_seq"]
    old = box.show(UNIT, "MainPID")["MainPID"]
    box.run("systemctl", "kill", "-s", "KILL", UNIT)
    box.wait_for(lambda: is_active_again_after(box, UNIT, old), UNIT)
    assert json.loads(certeus(box, "status", "--json"))["durable_seq"] >= before
    answer = json.loads(certeus(box, "append", "--json", "-", stdin='{"after":"the kill"}\n'))
    assert answer["last_seq"] > before


def test_sockets_belong_to_their_groups(box: Box) -> None:
    format_ = "%U:%G %a"
    assert box.run("stat", "-c", format_, "/run/certeus").strip() == "certeus:certeus 755"
    control = box.run("stat", "-c", format_, "/run/certeus/control.sock").strip()
    assert control == "certeus:certeus-admin 660"
    api = box.run("stat", "-c", format_, "/run/certeus/api.sock").strip()
    assert api == "certeus:certeus 666"


def test_stop_is_clean_and_leaves_no_process(box: Box) -> None:
    box.run("systemctl", "stop", UNIT)
    state = box.show(UNIT, "ActiveState", "Result", "ExecMainStatus")
    assert state == {"ActiveState": "inactive", "Result": "success", "ExecMainStatus": "0"}
    assert box.run("find", "/proc", "-maxdepth", "1", "-user", "certeus") == ""


def test_a_bad_configuration_is_not_tried_again_and_again(box: Box) -> None:
    config = box.root / "etc/certeus/certeus.toml"
    config.write_text('[postgres]\nnsd = "x"\n')
    box.run("systemctl", "start", UNIT, check=False)
    state = box.show(UNIT, "ActiveState", "ExecMainStatus")
    config.write_text("")
    assert state == {"ActiveState": "failed", "ExecMainStatus": "78"}, box.journal(UNIT)
    assert "dsn" in box.journal(UNIT)
    box.run("systemctl", "reset-failed", UNIT)
