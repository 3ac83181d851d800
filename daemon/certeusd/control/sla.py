"""What `/v1/sla` answers: whether the service levels are met."""

import msgspec

from certeusd.control.types import SCHEMA_VERSION


class Objective(msgspec.Struct, frozen=True, kw_only=True):
    """One promise of `[sla]`, and what was measured in the window."""

    name: str
    """`ack_p99`, `row_p99` or `availability`."""
    objective: float
    """Of the configuration."""
    measured: float | None
    """Of a time true to a factor of two: its histogram has powers of two. None: nothing yet."""
    upper_bound: float | None
    """What a measured time is at most; None where it is exact."""
    unit: str
    """`milliseconds` or `ratio`."""
    met: bool
    """Whether what was measured is within it; where nothing was measured, nothing has missed it."""
    samples: int
    """Events or rows counted; of the availability, looks."""
    since: str
    """When what was measured begins: the daemon's start, or the window's."""


class Sla(msgspec.Struct, frozen=True, kw_only=True):
    """`certeus sla`: whether the service levels are met."""

    schema_version: int = SCHEMA_VERSION
    window_seconds: int
    objectives: list[Objective]
    met: bool
    """All of them."""
