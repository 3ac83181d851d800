"""One thing to measure: a name, a system, and a function that measures it.

Every file beside this one that measures something exports a list of these; `run` puts them in
order, gives each the context of the run and checks what comes back.
"""

from collections.abc import Callable
from pathlib import Path

import msgspec

from certeus_bench.results import Measurement, Scope


class AbsentError(Exception):
    """A peer is not there; the message says what is missing and what installs it."""


class Context(msgspec.Struct, frozen=True, kw_only=True):
    """What a scenario is told of the run that it is part of."""

    warmup_seconds: float
    seconds: float
    home: Path
    """An empty directory of its own, on the disk under test."""
    cpus: tuple[int, ...]
    """What may be run on, in order; programs that pin themselves use the first and the last."""


class Scenario(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure. ``name``, ``system``, ``what``, ``unsafe`` are those of the `Result`."""

    name: str
    system: str
    scope: Scope
    what: str
    measure: Callable[[Context], Measurement]
    """Raises AbsentError where the system is not installed."""
    settings: dict[str, str | int | float | bool] = {}
    unsafe: bool = False
