"""The installed wheel on a throw-away machine with a real systemd.

The wheel is built here and installed into /opt/certeus, so that what is proved is the packaging and
the units, not the checkout. One box, one boot for a file of tests.
"""

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
    "certeus.socket": "usr/lib/systemd/system/certeus.socket",
    "certeus-control.socket": "usr/lib/systemd/system/certeus-control.socket",
    "certeus.sysusers": "usr/lib/sysusers.d/certeus.conf",
    "certeus.tmpfiles": "usr/lib/tmpfiles.d/certeus.conf",
}


@pytest.fixture(scope="session")
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
    if (reason := systemd_box.why_not()) is not None:
        pytest.skip(f"a real systemd: {reason}")
    if not PYTHON.exists():
        pytest.skip(f"a real systemd: needs {PYTHON}")
    # On the machine's own disk: the overlay is memory, where every sync would be free.
    disk = tmp_path_factory.mktemp("disk")
    for name in ("opt", "lib"):
        (disk / name).mkdir()
        (disk / name).chmod(0o755)
    packages = sysconfig.get_paths()["purelib"]
    options = [
        "--bind", f"{disk / 'opt'}:/opt/certeus", "--bind", f"{disk / 'lib'}:/var/lib/certeus",
        "--ro-bind", f"{packages}:/mnt/packages", "--ro-bind", f"{wheel.parent}:/mnt/wheel",
        "--ro-bind", f"{ROOT / 'tests' / 'support'}:/mnt/support",
    ]  # fmt: skip
    with systemd_box.booted(f"certeus{os.getpid()}", *options) as box:
        install(box)
        # Not waiting in systemctl: a start that never ends would hide the journal that says why.
        box.run("systemctl", "start", "--no-block", UNIT)
        box.wait_for(lambda: box.show(UNIT, "ActiveState")["ActiveState"] != "activating", UNIT)
        yield box
        box.run("systemctl", "stop", UNIT, check=False)
