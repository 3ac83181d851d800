"""Which process runs on which CPU: a pure rule over what this service may use.

Below four CPUs nothing is pinned: the scheduler's own wake affinity is better there, and a pinned
chain of wake-ups across CPUs doubles the time to an acknowledgement. From four on each hot process
(log writer, workers, flusher) has a CPU to itself, and everything else of ours, the embedded
PostgreSQL with its backends above all, runs on the rest.

Of the CPUs there are, the hot ones are taken in this order of concern:

1. a physical core each, before any two are siblings on one core;
2. isolated CPUs, where the affinity mask names them: somebody has set them apart for this;
3. one NUMA node where they fit, else one package;
4. not CPU 0, which serves interrupts; then the highest numbers first.

Only what `os.sched_getaffinity` says is ever used: it has cgroups' cpusets in it.
"""

from collections.abc import Iterable, Set
from typing import NamedTuple

from certeusd import cpus
from certeusd.config import CpuSection
from certeusd.config_sources import ConfigError
from certeusd.supervisor.topology import Cpu, Topology

CPUS_TO_PIN_MIN = 4
CPUS_A_WORKER = 4
WORKERS_AUTO_MAX = 8


class Placement(NamedTuple):
    """How many workers, and the CPU of each hot process; an absent one is not pinned."""

    workers: int
    log: int | None
    worker: tuple[int | None, ...]
    flush: int | None
    rest: frozenset[int]
    """For whatever is not pinned: supervisor, embedded PostgreSQL, helper threads."""
    why: str = ""
    """Why not every hot process has a CPU."""


def plan(
    topology: Topology, allowed: Set[int], settings: CpuSection, worker_count: int
) -> Placement:
    """Place the hot processes.

    Args:
        topology: of the CPUs that are online; one that is not in it is taken for a core of its own.
        allowed: what `os.sched_getaffinity(0)` said.
        settings: `[cpu]`.
        worker_count: `[worker] count`; 0 = one below four CPUs, else one for each four.

    Raises:
        ConfigError: `cpu.cpus` names a CPU that is not allowed.
    """
    assert allowed, "a process runs somewhere"
    numbers = _chosen(allowed, settings.cpus)
    usable = [topology.get(cpu, Cpu(cpu, cpu, 0, 0, isolated=False)) for cpu in sorted(numbers)]
    workers = worker_count or max(1, min(WORKERS_AUTO_MAX, len(usable) // CPUS_A_WORKER))
    hot = 2 + workers
    why = _why_not(settings.pin, len(usable), hot)
    if why and settings.pin != "on":
        return Placement(workers, None, (None,) * workers, None, numbers, why)
    taken: list[int | None] = [cpu.number for cpu in _take(usable, hot)]
    rest = numbers.difference(taken) or numbers
    housekeeping = {cpu.number for cpu in usable if not cpu.isolated}
    taken += [None] * (hot - len(taken))
    log, *worker, flush = taken
    return Placement(workers, log, tuple(worker), flush, rest & housekeeping or rest, why)


def _chosen(allowed: Set[int], text: str) -> frozenset[int]:
    named = cpus.parse(text)
    if named - allowed:
        raise ConfigError(
            f'cannot use cpu.cpus = "{text}": {cpus.shown(named - allowed)} is not allowed here,'
            f" {cpus.shown(allowed)} is (taskset, CPUAffinity=, AllowedCPUs= or a container's"
            " cpuset decide that)"
        )
    return named or frozenset(allowed)


def _why_not(pin: str, count: int, hot: int) -> str:
    if pin == "off":
        return 'cpu.pin = "off"'
    if pin == "auto" and count < CPUS_TO_PIN_MIN:
        return f"fewer than {CPUS_TO_PIN_MIN} CPUs"
    # All of them hot would leave none for PostgreSQL and the supervisor.
    if hot > count or (pin == "auto" and hot == count):
        return f"{hot} hot processes on {count} CPUs"
    return ""


def _take(usable: list[Cpu], count: int) -> list[Cpu]:
    """Take `count` CPUs, or all there are; the best placed first."""
    homes = sorted({(cpu.package, cpu.node) for cpu in usable}, reverse=True)
    ranks = _ranks(usable)

    def near(home: tuple[int, int]) -> list[Cpu]:
        package, node = home
        return sorted(
            usable,
            key=lambda cpu: (
                ranks[cpu.number], not cpu.isolated,
                cpu.node != node, cpu.package != package, -cpu.package, -cpu.node,
                cpu.number == 0, -cpu.number,
            ),
        )[:count]  # fmt: skip

    return min((near(home) for home in homes), key=lambda taken: _cost(taken, ranks))


def _cost(taken: Iterable[Cpu], ranks: dict[int, int]) -> tuple[int, ...]:
    """The concerns of the module's essay, in their order: less is better, of as much the first."""
    taken = list(taken)
    return (
        sum(ranks[cpu.number] for cpu in taken),
        sum(not cpu.isolated for cpu in taken),
        len({cpu.node for cpu in taken}),
        len({cpu.package for cpu in taken}),
        sum(cpu.number == 0 for cpu in taken),
    )


def _ranks(usable: list[Cpu]) -> dict[int, int]:
    """For each CPU, how many on its core are taken before it."""
    cores: dict[int, list[Cpu]] = {}
    for cpu in sorted(usable, key=lambda cpu: (not cpu.isolated, cpu.number == 0, -cpu.number)):
        cores.setdefault(cpu.core, []).append(cpu)
    return {cpu.number: rank for core in cores.values() for rank, cpu in enumerate(core)}
