"""The installed wheel under a real systemd: unit, users, directories, start, kill -9, stop.

The wheel is built here and installed into /opt/certeus of a throw-away machine, so that what is
proved is the packaging and the unit, not the checkout. Everything in one box, one boot: the tests
follow each other, and each leaves the service running unless its name says otherwise.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import systemd_box
from support.systemd_box import Box

ROOT = Path(__file__).resolve().parents[2]
UNIT = "certeus.service"
# ProtectHome= hides home directories: the interpreter is the system's own, of the same version.
PYTHON = Path(f"/usr/bin/python3.{sys.version_info.minor}")
INSTALLED = {
    "certeus.service": "usr/lib/systemd/system/certeus.service",
    "certeus.sysusers": "usr/lib/sysusers.d/certeus.conf",
    "certeus.tmpfiles": "usr/lib/tmpfiles.d/certeus.conf",
}
EXPOSURE_TENTHS_MAX = 15

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        (reason := systemd_box.why_not()) is not None, reason=f"a real systemd: {reason}"
    ),
    pytest.mark.skipif(not PYTHON.exists(), reason=f"a real systemd: needs {PYTHON}"),
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    shutil.rmtree(ROOT / "build", ignore_errors=True)  # modules of an older build would be packed
    done = subprocess.run(
        [
            sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation",
            "--wheel-dir", str(folder), str(ROOT),
        ],
        check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("certeus-*.whl")
    return wheel


def install(box: Box) -> None:
    """Unit files to where a package would put them, and the wheel into a venv of its own.

    Its dependencies are those of this test's interpreter, which came from requirements.lock.
    """
    for name, target in INSTALLED.items():
        shutil.copy(ROOT / "systemd" / name, box.root / target)
    site = f"/opt/certeus/lib/python3.{sys.version_info.minor}/site-packages"
    box.run(str(PYTHON), "-m", "venv", "--without-pip", "/opt/certeus")
    box.run("sh", "-c", f"cp -a /mnt/packages/. {site}/ && rm -rf {site}/*certeus*")
    box.run(
        "sh", "-c",
        "/opt/certeus/bin/python -m pip install --no-index --no-deps --root-user-action=ignore "
        "/mnt/wheel/*.whl",
    )  # fmt: skip
    box.run("chmod", "-R", "go+rX", "/opt/certeus")
    box.run("systemd-sysusers")
    box.run("systemd-tmpfiles", "--create", "/usr/lib/tmpfiles.d/certeus.conf")
    box.run("systemctl", "daemon-reload")


@pytest.fixture(scope="module")
def box(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    # On the machine's own disk: the overlay is memory, where every sync would be free.
    disk = tmp_path_factory.mktemp("disk")
    for name in ("opt", "lib"):
        (disk / name).mkdir()
        (disk / name).chmod(0o755)
    packages = sysconfig.get_paths()["purelib"]
    options = [
        "--bind", f"{disk / 'opt'}:/opt/certeus", "--bind", f"{disk / 'lib'}:/var/lib/certeus",
        "--ro-bind", f"{packages}:/mnt/packages", "--ro-bind", f"{wheel.parent}:/mnt/wheel",
    ]  # fmt: skip
    with systemd_box.booted(f"certeus{os.getpid()}", *options) as box:
        install(box)
        # Not waiting in systemctl: a start that never ends would hide the journal that says why.
        box.run("systemctl", "start", "--no-block", UNIT)
        box.wait_for(lambda: box.show(UNIT, "ActiveState")["ActiveState"] != "activating", UNIT)
        yield box
        box.run("systemctl", "stop", UNIT, check=False)


def certeus(box: Box, *arguments: str, stdin: str = "") -> str:
    return box.run("/opt/certeus/bin/certeus", *arguments, stdin=stdin)


def is_active_again_after(box: Box, old_pid: str) -> bool:
    # The restart count rises before the new process is ready: look at the state too.
    now = box.show(UNIT, "ActiveState", "MainPID")
    return now["ActiveState"] == "active" and now["MainPID"] not in ("0", old_pid)


def test_installed_units_give_systemd_nothing_to_complain_about(box: Box) -> None:
    assert box.run("systemd-analyze", "verify", UNIT) == ""
    assert box.run("systemd-tmpfiles", "--create", "/usr/lib/tmpfiles.d/certeus.conf") == ""


def test_unit_is_hardened_as_far_as_its_work_allows() -> None:
    command = ["systemd-analyze", "security", "--offline=true"]
    command += [f"--threshold={EXPOSURE_TENTHS_MAX}", str(ROOT / "systemd" / UNIT)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


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
    box.wait_for(lambda: is_active_again_after(box, old), UNIT)
    assert json.loads(certeus(box, "status", "--json"))["durable_seq"] >= before
    answer = json.loads(certeus(box, "append", "--json", "-", stdin='{"after":"the kill"}\n'))
    assert answer["last_seq"] > before


def test_sockets_belong_to_their_groups(box: Box) -> None:
    format_ = "%U:%G %a"
    assert box.run("stat", "-c", format_, "/run/certeus").strip() == "certeus:certeus 755"
    control = box.run("stat", "-c", format_, "/run/certeus/control.sock").strip()
    assert control == "certeus:certeus-admin 660"


def test_stop_is_clean_and_leaves_no_process(box: Box) -> None:
    box.run("systemctl", "stop", UNIT)
    state = box.show(UNIT, "ActiveState", "Result", "ExecMainStatus")
    assert state == {"ActiveState": "inactive", "Result": "success", "ExecMainStatus": "0"}
    assert box.run("find", "/proc", "-maxdepth", "1", "-user", "certeus") == ""


def test_a_bad_configuration_is_not_tried_again_and_again(box: Box) -> None:
    folder = box.root / "etc/certeus"
    folder.mkdir(exist_ok=True)
    (folder / "certeus.toml").write_text('[postgres]\nnsd = "x"\n')
    box.run("systemctl", "start", UNIT, check=False)
    state = box.show(UNIT, "ActiveState", "ExecMainStatus")
    (folder / "certeus.toml").unlink()
    assert state == {"ActiveState": "failed", "ExecMainStatus": "78"}, box.journal(UNIT)
    assert "dsn" in box.journal(UNIT)
    box.run("systemctl", "reset-failed", UNIT)
