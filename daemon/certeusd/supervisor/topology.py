"""What the CPUs of this machine share with each other, as the kernel shows it under /sys.

Only read, once at a start. A kernel or a sandbox that shows less is no error: a CPU about which
nothing is said is a core of its own, on node 0.
"""

from pathlib import Path
from typing import NamedTuple

from certeusd import cpus

SYSTEM = Path("/sys/devices/system")


class Cpu(NamedTuple):
    """One logical CPU."""

    number: int
    core: int
    """The lowest number among the CPUs of its physical core (SMT siblings)."""
    package: int
    node: int
    """Of its memory (NUMA)."""
    isolated: bool
    """The scheduler balances nothing onto it: `isolcpus=`, or an isolated cpuset partition."""


Topology = dict[int, Cpu]
"""By number."""


def read(system: Path = SYSTEM) -> Topology:
    """Return every CPU that is online."""
    root = system / "cpu"
    isolated = _list(root / "isolated")
    nodes = {
        cpu: int(directory.name.removeprefix("node"))
        for directory in sorted((system / "node").glob("node[0-9]*"))
        for cpu in _list(directory / "cpulist")
    }
    found: Topology = {}
    for number in sorted(_list(root / "online")):
        about = root / f"cpu{number}" / "topology"
        # The first has the newer name of the same file.
        siblings = _list(about / "core_cpus_list") or _list(about / "thread_siblings_list")
        found[number] = Cpu(
            number=number,
            core=min(siblings, default=number),
            package=_number(about / "physical_package_id"),
            node=nodes.get(number, 0),
            isolated=number in isolated,
        )
    return found


def _text(file: Path) -> str:
    try:
        return file.read_text().strip()
    except OSError:
        return ""


def _list(file: Path) -> frozenset[int]:
    try:
        return cpus.parse(_text(file))
    except ValueError:  # `(null)`, as some kernels write an empty one.
        return frozenset()


def _number(file: Path) -> int:
    text = _text(file)
    return int(text) if text.isdigit() else 0  # -1: the firmware does not say.
