"""What is measured for `/metrics` and is neither on the board nor in the status."""

from typing import Literal, NamedTuple

from certeusd.config import ThresholdsSection
from certeusd.control.sla import Sla

Scope = Literal["cgroup", "host"]


class ProcessMeasure(NamedTuple):
    """A place for a process, over all its lives: it has a role and a slot, never a pid."""

    role: str
    slot: int
    up: bool
    restarts: int
    """Lives that ended without having been told to."""
    cpu_seconds: float
    """Of all its lives: never less than before."""
    resident_bytes: int
    started_at: float | None
    """Seconds since 1970; None between two lives."""
    pinned_cpu: int | None


class MemoryMeasure(NamedTuple):
    """Memory that cannot be had back, beside what there is: both of the same scope."""

    scope: Scope
    used_bytes: int
    limit_bytes: int


class ReloadMeasure(NamedTuple):
    """How the configuration was read last."""

    successful: bool
    succeeded_at: float
    """Seconds since 1970; the start counts."""


class Measures(NamedTuple):
    """All of it, as of now."""

    started_at: float
    flushed_until: float
    """Seconds since 1970: what was durable then is in PostgreSQL."""
    worker_places: int
    """Workers that there are or were: what they have counted stays counted."""
    processes: tuple[ProcessMeasure, ...]
    cpus: int
    """That this service may use."""
    memory: MemoryMeasure
    reload: ReloadMeasure
    thresholds: ThresholdsSection
    sla: Sla
