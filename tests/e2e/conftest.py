"""The built package on throw-away machines with a real systemd: bookworm's 252 and trixie's 257.

The package is built as `make deb` builds it and installed by apt, without a network, so that what
is proved is what an operator gets, not the checkout. One box, one boot for a file of tests.
"""

import shutil
import subprocess
from collections.abc import Iterator

import pytest

from support import systemd_box
from support.machines import ROOT, SUITES, Machine, install
from support.systemd_box import UNIT, Box

BUILD = ROOT / "tools" / "deb.sh"


@pytest.fixture(scope="session")
def packages() -> None:
    """The packages of all suites, made by what `make deb` runs."""
    if (reason := systemd_box.why_not()) is not None:
        pytest.skip(f"a real systemd: {reason}")
    if shutil.which("debootstrap") is None:
        pytest.skip("a machine of each suite: needs debootstrap")
    done = subprocess.run([str(BUILD), *SUITES], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr


@pytest.fixture(scope="module", params=list(SUITES))
def machine(request: pytest.FixtureRequest, packages: None) -> Machine:
    return Machine(request.param)


@pytest.fixture(scope="module")
def fresh_box(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    """A machine without certeus."""
    with machine.booted(tmp_path_factory.mktemp("disk")) as box:
        yield box


@pytest.fixture(scope="module")
def box(machine: Machine, fresh_box: Box) -> Iterator[Box]:
    """A machine with certeus and its PostgreSQL installed, which runs at once."""
    install(fresh_box, machine.package("certeus"), machine.package("certeus-embedded"))
    yield fresh_box
    fresh_box.run("systemctl", "stop", UNIT, check=False)
