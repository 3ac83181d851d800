"""The bars that certeus set itself, and whether a run reached them.

Where several results fit a bar, the worst value counts. A bar that lacks a result, or has an
artifact in its place, is not passed and says so.

A run is held to the bars of the groups (``ring``, ``durable``: the first part of a name) that it
was meant to measure, and to those against peers that it was meant to measure. Both can be read from
the run: all that was meant stands among its results or among what is absent.
"""

from typing import NamedTuple

from certeus_bench import units
from certeus_bench.figures import (
    CPU,
    CPUS,
    P50,
    P99,
    PSS,
    RATE,
    Of,
    UnmeasuredError,
    Values,
    alone,
    is_system,
    loss,
    over,
    rise,
    untitled,
)
from certeus_bench.histogram import RESOLUTION
from certeus_bench.results import Gate, Run

AHEAD = 1 - RESOLUTION
"""Two percentiles that are closer than what a histogram tells apart are equal, not ahead."""


class Bar(NamedTuple):
    """A metric, its bound, and how a run's results give its value."""

    metric: str
    bound: float
    at_least: bool
    values: Values
    peer: str = ""

    @property
    def group(self) -> str:
        """The first part of the names of the results that it is about."""
        return self.metric.partition(":")[0]


AT_LEAST, AT_MOST = True, False

ONE_WAY = Of("ring/one-way")
FROM_PYTHON = Of("ring/throughput-python")
ACK = Of("durable/ack")
BARE_SYNC = Of("floor/fdatasync-4k", "floor")
DURABLE = Of("durable/throughput")
REDIS = Of("durable/throughput", "redis", {"appendfsync": "always"})
ROWS = Of("postgres/throughput")
ROW_LATENCY = Of("postgres/row-latency")

BARS = (
    Bar("ring: one-way p50 over that of a ping-pong without any queue", 2.5, AT_MOST,
        over(P50, ONE_WAY, Of("floor/ping-pong", "floor"))),
    Bar("ring: one-way p50 over that of iceoryx2", AHEAD, AT_MOST,
        over(P50, ONE_WAY, Of("ring/one-way", "iceoryx2"), payload=True), "iceoryx2"),
    Bar("ring: one-way p50 over that of Aeron", AHEAD, AT_MOST,
        over(P50, ONE_WAY, Of("ring/one-way", "aeron"), payload=True), "aeron"),
    Bar("ring: events/s from Rust", 20e6, AT_LEAST, alone(RATE, Of("ring/throughput"))),
    Bar("ring: events/s from Python, append_many of bytes", 5e6, AT_LEAST,
        alone(RATE, FROM_PYTHON)),
    Bar("ring: events/s from Python, append of a dict", 1e6, AT_LEAST,
        alone(RATE, Of("ring/throughput-dict"))),
    Bar("ring: events/s from Python over those of faster-fifo", 10.0, AT_LEAST,
        over(RATE, FROM_PYTHON, Of(FROM_PYTHON.name, "faster-fifo"), payload=True), "faster-fifo"),
    Bar("durable: p50 of an ack over that of a bare fdatasync of 4 KiB", 1.5, AT_MOST,
        over(P50, ACK, BARE_SYNC)),
    Bar("durable: p99 of an ack over that of a bare fdatasync of 4 KiB", 2.0, AT_MOST,
        over(P99, ACK, BARE_SYNC)),
    Bar("durable: events/s", 1e6, AT_LEAST, alone(RATE, DURABLE)),
    Bar("durable: events/s over those of Redis, appendfsync always", 5.0, AT_LEAST,
        over(RATE, DURABLE, REDIS, payload=True), "redis"),
    Bar("durable: share of events/s lost from 1 to 64 producers", 0.10, AT_MOST,
        loss("durable/producers-", 1, 64)),
    Bar("durable: bytes/s over those of the next smaller size, 100 B to 4 KiB", 1.0, AT_LEAST,
        rise("durable/bytes-", 100, 4096)),
    Bar("postgres: events/s over rows/s of a bare COPY", 0.70, AT_LEAST,
        over(RATE, ROWS, Of("floor/copy", "floor"), same="postgres")),
    Bar("postgres: events/s into the embedded PostgreSQL 18", 300e3, AT_LEAST,
        alone(RATE, ROWS._replace(settings={"postgres": 18}))),
    Bar("postgres: events/s into Debian's PostgreSQL 15", 200e3, AT_LEAST,
        alone(RATE, ROWS._replace(settings={"postgres": 15}))),
    Bar("postgres: p50 from append to row at 50,000/s, ms", 30.0, AT_MOST,
        alone(P50, ROW_LATENCY, 1e-6)),
    Bar("postgres: p99 from append to row at 50,000/s, ms", 100.0, AT_MOST,
        alone(P99, ROW_LATENCY, 1e-6)),
    Bar("inproc: memory (PSS), MiB", 256.0, AT_MOST, alone(PSS, Of("inproc/memory"), 2.0**-20)),
    Bar("inproc: CPU an event at saturation, µs", 1.5, AT_MOST,
        alone(CPU, Of("inproc/cpu"), 1e-3)),
    Bar("inproc: CPUs that an idle system takes", 0.01, AT_MOST, alone(CPUS, Of("inproc/idle"))),
)  # fmt: skip


def gates_of(run: Run) -> list[Gate]:
    """The bars to which this run is held, each passed or not."""
    meant = [(result.name, result.system) for result in run.results]
    meant += [untitled(key) for key in run.absent]
    groups = {name.partition("/")[0] for name, _ in meant}
    return [
        _gate(bar, run)
        for bar in BARS
        if bar.group in groups
        and (not bar.peer or any(is_system(system, bar.peer) for _, system in meant))
    ]


def score_of(gates: list[Gate]) -> float | None:
    """Gates passed, divided by all; None without any."""
    return sum(gate.passed for gate in gates) / len(gates) if gates else None


def _gate(bar: Bar, run: Run) -> Gate:
    value: float | None
    try:
        worst = min if bar.at_least else max
        value, told = worst(bar.values(run), key=lambda one: one.number)
        passed = value >= bar.bound if bar.at_least else value <= bar.bound
    except UnmeasuredError as error:
        value, told, passed = None, str(error), False
    return Gate(
        metric=bar.metric, value=value, bound=bar.bound, at_least=bar.at_least,
        passed=passed, told=told,
    )  # fmt: skip


def bound_said(gate: Gate) -> str:
    """``≥ 20,000,000``."""
    return f"{'≥' if gate.at_least else '≤'} {gate.bound:,.10g}"


def value_said(gate: Gate) -> str:
    """A value as its bound is written; a dash where there is none."""
    if gate.value is None:
        return "—"
    return units.number(gate.value)
