"""What a measurement is, on its way from a measuring program to the signed evidence.

Every measuring program, whatever its language, prints one JSON object on its standard output: a
`Measurement`. `Result` adds what was measured and whether it is plausible; `Run` is all results of
one run with the machine, the commit and the settings.

Times are nanoseconds as integers and come in HDR histograms, whole: nothing is rounded before a
percentile is taken. Rates are events in a second.
"""

from enum import StrEnum

import msgspec

SCHEMA_VERSION = 1


class Scope(StrEnum):
    """How far an event goes before it counts; only results of one scope may be compared."""

    RING = "ring"
    """From one process to another through memory; nothing survives either."""
    INPROC = "inproc"
    """Inside one process: a cost, never a throughput to compare with."""
    DURABLE = "durable"
    """Until a sync of the disk has returned and the sender knows it."""
    HTTP = "http"
    """Through the HTTP socket, until the answer tells that it is durable."""
    POSTGRES = "postgres"
    """Until a committed row can be seen by another connection."""


class Loop(StrEnum):
    """Who decides when the next operation begins."""

    OPEN = "open"
    """A clock: an operation's time begins when it was due, so waiting in line is counted."""
    CLOSED = "closed"
    """The answer to the one before: what a caller sees that waits for each."""


class Measurement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one measuring program saw, without warm-up."""

    operations: int
    """How many were completed in `seconds`."""
    seconds: float
    warmup_seconds: float
    bytes_each: int = 0
    """Payload of one operation; the mean where sizes are mixed."""
    loop: Loop = Loop.CLOSED
    concurrency: int = 0
    """Operations that could be under way at once at most; 0: not bounded, or not known."""
    histogram: str | None = None
    """Time of each operation in ns: an HDR histogram, V2, compressed, in base64."""
    timer_ns: int = 0
    """Resolution of the clock that the times were taken with, as measured there."""
    intervals: list[int] = []
    """Operations completed in each interval of `interval_seconds`, in order."""
    interval_seconds: float = 0.0
    written_sum: int | None = None
    """Sum (u64, wrapping) over what the writing side put into all payloads, warm-up included."""
    read_sum: int | None = None
    """The same over what the reading side took out of them: proves that they were read."""
    cpu_seconds: float | None = None
    """User and system time of all processes of the system under test in `seconds`."""
    facts: dict[str, float] = {}
    """What else was counted: copies, system calls, bytes, by a name that says its unit."""


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Percentiles out of a histogram, in ns."""

    count: int
    mean_ns: float
    min_ns: int
    p50_ns: int
    p90_ns: int
    p99_ns: int
    p999_ns: int
    max_ns: int


class Label(StrEnum):
    """Whether a result may be believed."""

    SOUND = "sound"
    ARTIFACT = "artifact"


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """One figure with all that it needs to be understood and doubted."""

    name: str
    """What work was done, stable over versions: ``ring/one-way``; the same for each system."""
    system: str
    """``certeus``, ``floor``, or the peer's name with its version."""
    scope: Scope
    what: str
    """One sentence for a reader who has not seen the code."""
    unsafe: bool = False
    """Acknowledged before it is durable: shown, never compared."""
    settings: dict[str, str | int | float | bool]
    measurement: Measurement
    per_second: float
    latency: Latency | None
    label: Label
    reasons: list[str]
    """Why it is an artifact; empty for what is sound."""


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """One bar, and whether it was reached."""

    metric: str
    value: float | None
    """None: it was not measured, or only an artifact was; that does not pass."""
    bound: float
    at_least: bool
    passed: bool
    told: str
    """How the value came about: which figure over which."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one run measured."""

    schema_version: int = SCHEMA_VERSION
    started_at: str
    commit: str
    """Of the checkout, with ``-dirty`` behind it where files were changed."""
    command: str
    machine: dict[str, str | int | float]
    settings: dict[str, str | int | float | bool]
    results: list[Result]
    absent: dict[str, str] = {}
    """Peers that could not be measured, and why."""
    gates: list[Gate] = []
    score: float | None = None
    """Gates passed, divided by all."""
