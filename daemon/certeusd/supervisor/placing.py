"""Who runs where, at the start: planned, told, and done for whatever is not pinned."""

import os
from typing import NamedTuple

from certeusd import cpus
from certeusd.config import Config
from certeusd.logs import Logger
from certeusd.supervisor import pinning, topology
from certeusd.supervisor.pinning import Placement
from certeusd.supervisor.scaling import Policy


class Placed(NamedTuple):
    """The plan, and of how many CPUs it is."""

    placement: Placement
    cpu_count: int


def place(config: Config, policy: Policy, logger: Logger) -> Placed:
    """Plan, and go to where whatever is not pinned runs; children inherit it.

    Raises:
        ConfigError: `cpu.cpus` names a CPU that is not allowed.
    """
    allowed = frozenset(os.sched_getaffinity(0))
    cpu_count = len(pinning.chosen(allowed, config.cpu))
    bounds = policy.bounds(config.worker, cpu_count)
    placement = pinning.plan_between(topology.read(), allowed, config.cpu, bounds)
    logger.info(
        "cpus_planned", allowed=cpus.shown(allowed), workers=placement.workers,
        workers_max=bounds.max, log=placement.log, worker=list(placement.worker),
        flush=placement.flush, rest=cpus.shown(placement.rest), why=placement.why,
    )  # fmt: skip
    if placement.rest != allowed:
        try:
            os.sched_setaffinity(0, placement.rest)
        except OSError as error:  # A sandbox may forbid it: slower, and no reason to stop.
            logger.warning("supervisor_not_pinned", error=str(error))
    return Placed(placement, cpu_count)
