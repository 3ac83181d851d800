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
from certeusd.supervisor import scaling
from certeusd.supervisor.scaling import Bounds
from certeusd.supervisor.topology import Cpu, Topology

CPUS_TO_PIN_MIN = 4


class Placement(NamedTuple):
    """How many workers, and the CPU of each hot process; an absent one is not pinned."""

    workers: int
    """At the start."""
    log: int | None
    worker: tuple[int | None, ...]
    """Of these and of those that may come."""
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
    numbers = chosen(allowed, settings)
    usable = [topology.get(cpu, Cpu(cpu, cpu, 0, 0, isolated=False)) for cpu in sorted(numbers)]
    workers = worker_count or scaling.automatic(len(usable))
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


def plan_between(
    topology: Topology, allowed: Set[int], settings: CpuSection, bounds: Bounds
) -> Placement:
    """Place the hot processes where the number of workers may change.

    As many as can be pinned get a CPU of their own for the time when they are there; the ones above
    these run on the rest. CPUs of workers that are not there at the start belong to the rest, too:
    the scheduler keeps it away from one that is at work.

    Raises:
        ConfigError: `cpu.cpus` names a CPU that is not allowed.
    """
    most = placement = plan(topology, allowed, settings, bounds.max)
    for workers in range(bounds.max - 1, bounds.min - 1, -1):
        if not placement.why:
            break
        placement = plan(topology, allowed, settings, workers)
    coming = {cpu for cpu in placement.worker[bounds.min :] if cpu is not None}
    plain = {cpu for cpu in coming if cpu not in topology or not topology[cpu].isolated}
    unpinned = (None,) * (bounds.max - len(placement.worker))
    return placement._replace(
        workers=bounds.min,
        worker=placement.worker + unpinned,
        rest=placement.rest | plain,
        why=placement.why or most.why,
    )


def chosen(allowed: Set[int], settings: CpuSection) -> frozenset[int]:
    """Return the CPUs that are used.

    Raises:
        ConfigError: `cpu.cpus` names one that is not allowed.
    """
    text = settings.cpus
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
