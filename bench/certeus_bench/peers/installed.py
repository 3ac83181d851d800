"""Where the peers are, and what to do where they are not.

`bench/install/durable_peers.sh` and `bench/install/ring_peers.sh` put them below `.peers/`: Python
packages into virtual environments of their own, Debian's packages unpacked, not installed, so that
no service of theirs is started.
"""

import os
import shutil
from pathlib import Path

from certeus_bench.scenario import AbsentError

ROOT = Path(__file__).resolve().parents[3]
PEERS = ROOT / ".peers"
BENCH = ROOT / "bench"
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
INSTALLS = "bench/install/durable_peers.sh installs it"
RING_INSTALLS = "bench/install/ring_peers.sh installs it"


def python(kind: str = "durable") -> str:
    """The interpreter that has the Python packages of ``durable`` or ``ring`` peers."""
    path = PEERS / f"venv-{kind}" / "bin" / "python"
    if not path.exists():
        wanted, script = f"requirements-{kind}.txt", f"bench/install/{kind}_peers.sh"
        raise AbsentError(f"cannot use the packages of {wanted}: no {path}; {script} installs them")
    return str(path)


def built(path: str) -> Path:
    """What was built of a ring's peer, below `.peers`, to be run."""
    if (found := PEERS / path).exists():
        return found
    raise AbsentError(f"cannot find {found}; {RING_INSTALLS}")


def program(name: str) -> str:
    """Path of a peer's server: unpacked for the benchmark, else the system's own."""
    own = (PEERS / place for place in ("bin", "debian/usr/bin", "debian/usr/sbin"))
    if path := shutil.which(name, path=os.pathsep.join([*map(str, own), SYSTEM_PATH])):
        return path
    raise AbsentError(f"cannot find {name}; {INSTALLS}")


def version(name: str) -> str:
    """`` 7.0.15``, with the space, as it was when it was installed; empty for what is absent."""
    try:
        return " " + (PEERS / "versions" / name).read_text().strip()
    except FileNotFoundError:
        return ""


def libraries() -> Path:
    """Where Debian's unpacked libraries are."""
    return PEERS / "debian" / "usr" / "lib" / f"{os.uname().machine}-linux-gnu"


def environment() -> dict[str, str]:
    """Of every process of a peer: finds unpacked libraries, and the producers' own modules."""
    found = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return found | {"PYTHONPATH": str(BENCH), "LD_LIBRARY_PATH": str(libraries())}
