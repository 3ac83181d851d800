"""The installed wheel on throw-away machines with a real systemd: this one's, and trixie's (257).

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
from typing import NamedTuple

import pytest

from support import systemd_box
from support.systemd_box import Box

ROOT = Path(__file__).resolve().parents[2]
UNIT = "certeus.service"
TREES = ROOT / "target" / "trees"
TREE_SCRIPT = ROOT / "tests" / "support" / "debian_tree.sh"
INSTALLED = {
    "certeus.service": "usr/lib/systemd/system/certeus.service",
    "certeus.socket": "usr/lib/systemd/system/certeus.socket",
    "certeus-control.socket": "usr/lib/systemd/system/certeus-control.socket",
    "certeus.sysusers": "usr/lib/sysusers.d/certeus.conf",
    "certeus.tmpfiles": "usr/lib/tmpfiles.d/certeus.conf",
}


class Machine(NamedTuple):
    """Where a box comes from."""

    python: str
    """`3.11`; of the system itself, because ProtectHome= hides home directories."""
    packages: Path
    """Our dependencies for that Python."""
    options: tuple[str, ...] = ()
    """For `systemd_box.booted`."""


def this_machine() -> Machine:
    version = f"3.{sys.version_info.minor}"
    if not Path(f"/usr/bin/python{version}").exists():
        pytest.skip(f"a real systemd: needs /usr/bin/python{version}")
    return Machine(version, Path(sysconfig.get_paths()["purelib"]))


def trixie() -> Machine:
    if shutil.which("debootstrap") is None:
        pytest.skip("systemd 257: needs debootstrap")
    command = [str(TREE_SCRIPT), "trixie", "3.13", str(TREES)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    lower = ("--lower", str(TREES / "trixie"), "--cgroup", "v2")
    return Machine("3.13", TREES / "packages-3.13", lower)


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


def install(box: Box, python: str) -> None:
    """Unit files to where a package would put them, and the wheel into a venv of its own."""
    for name, target in INSTALLED.items():
        (box.root / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "systemd" / name, box.root / target)
    site = f"/opt/certeus/lib/python{python}/site-packages"
    box.run(f"/usr/bin/python{python}", "-m", "venv", "--without-pip", "/opt/certeus")
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


@pytest.fixture(scope="module", params=[this_machine, trixie], ids=lambda made: made.__name__)
def box(
    request: pytest.FixtureRequest, wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Box]:
    if (reason := systemd_box.why_not()) is not None:
        pytest.skip(f"a real systemd: {reason}")
    machine: Machine = request.param()
    # On the machine's own disk: the overlay is memory, where every sync would be free.
    disk = tmp_path_factory.mktemp("disk")
    for name in ("opt", "lib"):
        (disk / name).mkdir()
        (disk / name).chmod(0o755)
    options = [
        "--bind", f"{disk / 'opt'}:/opt/certeus", "--bind", f"{disk / 'lib'}:/var/lib/certeus",
        "--ro-bind", f"{machine.packages}:/mnt/packages",
        "--ro-bind", f"{wheel.parent}:/mnt/wheel",
        "--ro-bind", f"{ROOT / 'tests' / 'support'}:/mnt/support",
    ]  # fmt: skip
    with systemd_box.booted(f"certeus{os.getpid()}", *machine.options, *options) as box:
        install(box, machine.python)
        # Not waiting in systemctl: a start that never ends would hide the journal that says why.
        box.run("systemctl", "start", "--no-block", UNIT)
        box.wait_for(lambda: box.show(UNIT, "ActiveState")["ActiveState"] != "activating", UNIT)
        yield box
        box.run("systemctl", "stop", UNIT, check=False)
