"""Which process runs on which CPU: a pure rule over the CPUs that this service may use.

Below four allowed CPUs nothing is pinned: the scheduler's own wake affinity is better there, a
pinned chain of wake-ups across CPUs doubles the time to an acknowledgement. From four on the log
writer and each worker get a CPU of their own, counted from the last one, because the first serves
interrupts. Allowed CPUs may be sparse (cpusets), so only what `os.sched_getaffinity` says is ever
used.
"""

from typing import NamedTuple

from certeusd.config_sources import ConfigError

CPUS_TO_PIN_MIN = 4
CPUS_A_WORKER = 4
WORKERS_AUTO_MAX = 8


class Plan(NamedTuple):
    """How many workers, and the CPU of each hot process; an absent one is not pinned."""

    workers: int
    log: int | None
    worker: tuple[int | None, ...]


def plan(pin: str | tuple[int, ...], worker_count: int, allowed: set[int]) -> Plan:
    """Place the hot processes.

    Args:
        pin: `[cpu] pin`: `auto`, `off`, or CPUs in the order log writer, worker 0, worker 1, ...;
            they are used again from the start when there are fewer than processes.
        worker_count: `[worker] count`; 0 = one below four allowed CPUs, else one for each four.
        allowed: what `os.sched_getaffinity(0)` said.
    """
    assert allowed, "a process runs somewhere"
    workers = worker_count or max(1, min(WORKERS_AUTO_MAX, len(allowed) // CPUS_A_WORKER))
    hot = 1 + workers
    if isinstance(pin, str):
        if pin == "off" or len(allowed) < CPUS_TO_PIN_MIN or hot >= len(allowed):
            return Plan(workers, None, (None,) * workers)
        cpus = sorted(allowed, reverse=True)[:hot]
    else:
        strange = sorted(set(pin) - allowed)
        if strange or not pin:
            raise ConfigError(
                f"cannot use cpu.pin = {list(pin)}: allowed CPUs are {sorted(allowed)}"
            )
        cpus = [pin[at % len(pin)] for at in range(hot)]
    return Plan(workers, cpus[0], tuple(cpus[1:]))
