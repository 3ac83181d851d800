"""What `/metrics` says of processes, memory and reloads: measured when it is asked for.

A slot's processor time is the sum over its lives: each is read for the last time between its end
and its burial, when the kernel still has the exact figure.
"""

import contextlib
import os
import time
from collections.abc import Generator, Sequence
from pathlib import Path

import psutil

from certeusd.config import ThresholdsSection
from certeusd.control.measures import (
    Measures,
    MemoryMeasure,
    ProcessMeasure,
    ReloadMeasure,
)
from certeusd.control.sla import Sla
from certeusd.exits import Exit, ExitError
from certeusd.supervisor.slot import Slot

CGROUPS = Path("/sys/fs/cgroup")
UNRECLAIMABLE = ("anon", "shmem", "kernel_stack", "pagetables", "slab_unreclaimable")
"""Of `memory.stat`; the page cache of the log is no use of memory."""


class Measuring:
    """Measures; `reload` notes how the last one went."""

    def __init__(self) -> None:
        self._started_at = time.time()
        self._itself = psutil.Process()
        self._reload = ReloadMeasure(True, self._started_at)

    @contextlib.contextmanager
    def reload(self) -> Generator[None]:
        """Note whether the configuration that is read inside can be used."""
        try:
            yield
        except ExitError as error:
            if error.code is Exit.CONFIGURATION:
                self._reload = self._reload._replace(successful=False)
            raise
        self._reload = ReloadMeasure(True, time.time())

    def now(
        self,
        slots: Sequence[Slot],
        worker_places: int,
        lag_seconds: float,
        thresholds: ThresholdsSection,
        sla: Sla,
    ) -> Measures:
        """Measure."""
        return Measures(
            started_at=self._started_at,
            flushed_until=time.time() - lag_seconds,
            worker_places=worker_places,
            processes=(self._supervisor(), *map(_process, slots)),
            cpus=len(os.sched_getaffinity(0)),
            memory=memory(),
            reload=self._reload,
            thresholds=thresholds,
            sla=sla,
        )

    def _supervisor(self) -> ProcessMeasure:
        with self._itself.oneshot():
            times, resident = self._itself.cpu_times(), self._itself.memory_info().rss
        return ProcessMeasure(
            role="supervisor",
            slot=0,
            up=True,
            restarts=0,
            cpu_seconds=times.user + times.system,
            resident_bytes=int(resident),
            started_at=self._started_at,
            pinned_cpu=None,
        )


def _process(slot: Slot) -> ProcessMeasure:
    child = slot.child
    cpu_seconds, resident_bytes = (0.0, 0) if child is None else child.used()
    return ProcessMeasure(
        role=slot.role,
        slot=slot.index,
        up=slot.ready,
        restarts=slot.backoff.restarts,
        cpu_seconds=slot.ended_cpu_seconds + cpu_seconds,
        resident_bytes=resident_bytes,
        started_at=None if child is None else child.spawned_at,
        pinned_cpu=slot.cpu,
    )


def memory(cgroups: Path = CGROUPS, of: Path = Path("/proc/self/cgroup")) -> MemoryMeasure:
    """Measure the control group with the least room, of ours and those above it; else the host."""
    host = psutil.virtual_memory()
    found = MemoryMeasure("host", host.total - host.available, host.total)
    with contextlib.suppress(OSError, ValueError):
        lines = of.read_text().splitlines()
        path = next((at[4:] for at in lines if at.startswith("0::/")), "")
        for group in (cgroups / path, *(cgroups / path).parents):
            one = _of_group(group) if group.is_relative_to(cgroups) else None
            if one is not None and one.limit_bytes < found.limit_bytes:
                found = one
    return found


def _of_group(group: Path) -> MemoryMeasure | None:
    """Measure one control group (version 2); None: it has no limit."""
    try:
        limit = (group / "memory.max").read_text().strip()
    except FileNotFoundError:  # The root has none.
        return None
    if limit == "max":
        return None
    stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    used = sum(int(stat.get(name, 0)) for name in UNRECLAIMABLE)
    return MemoryMeasure("cgroup", used, int(limit))
