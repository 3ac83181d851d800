"""Which stage gave: decided by samples alone, so that a table of cases can test it.

A stage holds a rate if what waits before it does not grow. It gives in a step if that grew in both
halves of the step, each time by more than a trifle of what came in: one slow sync is no end. Nor is
one checkpoint: `stress` wants two such steps in a row.

Producers, ring, worker and log are one line until the verdict, so of them it is asked together
whether they hold, and then who is the narrowest: who is at work, or in line for a processor, nearly
all the time. A stage behind a narrower one is idle for part of it.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple

from certeus_bench import units
from certeus_bench.load.sampling import MACHINE, POSTGRES, PRODUCER, Sample

GROWTH_SHARE = 0.03
"""Of what came in: if more than that of it waits at the end, the stage does not follow."""
BUSY_SHARE = 0.8
"""Who wants a processor, or waits for the disk, for more of the time has no more to give."""
FULL_SHARE = 0.05


class Stage(StrEnum):
    """In the order of an event's way."""

    PRODUCERS = "producers"
    """They cannot offer what is due."""
    RING = "ring"
    """It is too small for what is under way until a sync: nobody behind it is at his end."""
    WORKER = "worker"
    """It drains rings slower than they fill."""
    LOG = "log"
    """Group commit is at its end: its processor, or the disk."""
    POSTGRES = "postgres"
    """It follows slower than events become durable."""


class Gave(NamedTuple):
    """A stage that gave, and the figures that say so."""

    stage: Stage
    why: str


class Rates(NamedTuple):
    """What happened between two samples: events a second, and shares of the time."""

    due: float
    sent: float
    durable: float
    flushed: float
    ring_full: float
    sync: float
    busy: dict[str, float]
    cpu: dict[str, float]
    line: dict[str, float]

    def busiest(self, kind: str) -> float:
        """The largest share of a kind of process."""
        return max((at for name, at in self.busy.items() if name.startswith(kind)), default=0.0)

    @property
    def log_at_work(self) -> float:
        """The share of the log writer: at work, in line, or in a sync, which ends in line too."""
        return min(self.busiest("log") + self.sync, 1.0)

    def processors(self, kind: str) -> float:
        """How many processors a kind of process had, all together."""
        return sum(at for name, at in self.cpu.items() if name.startswith(kind))

    def in_line(self, kind: str) -> float:
        """How many of its threads were in line for one, on average."""
        return sum(at for name, at in self.line.items() if name.startswith(kind))


def rates(first: Sample, last: Sample) -> Rates:
    """What happened between them."""
    seconds = last.at_s - first.at_s

    def shares(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
        both = before.keys() & after.keys()
        return {name: max(after[name] - before[name], 0.0) / seconds for name in both}

    return Rates(
        due=(last.due - first.due) / seconds,
        sent=(last.sent - first.sent) / seconds,
        durable=(last.settled - first.settled) / seconds,
        flushed=(last.flushed_seq - first.flushed_seq) / seconds,
        ring_full=(last.ring_full_s - first.ring_full_s) / seconds / last.producers,
        sync=(last.sync_s - first.sync_s) / seconds,
        busy=shares(first.busy_s, last.busy_s),
        cpu=shares(first.cpu_s, last.cpu_s),
        line=shares(first.line_s, last.line_s),
    )


def gave(step: Sequence[Sample]) -> list[Gave]:
    """Stages that did not hold a step's rate, of its samples in their order; at least three."""
    first, last = step[0], step[-1]
    found = rates(first, last)
    given: list[Gave] = []
    if _grows(step, lambda sample: sample.due - sample.settled, last.due - first.due):
        given.append(_of_line(first, last, found))
    if _grows(step, lambda sample: sample.lag_events, last.settled - first.settled):
        given.append(Gave(Stage.POSTGRES, _postgres_said(last, found)))
    return given


def _grows(step: Sequence[Sample], waiting: Callable[[Sample], int], came: int) -> bool:
    """Whether more and more waits, of so many that came."""
    begin, middle, end = (waiting(step[at]) for at in (0, len(step) // 2, -1))
    return min(middle - begin, end - middle) > GROWTH_SHARE * came / 2


def _of_line(first: Sample, last: Sample, found: Rates) -> Gave:
    """Of the line until the verdict, the narrowest stage."""
    not_sent = (last.due - last.sent) - (first.due - first.sent)
    not_settled = (last.sent - last.settled) - (first.sent - first.settled)
    if found.ring_full < FULL_SHARE and not_sent > not_settled:
        share = found.busiest(PRODUCER)
        return Gave(
            Stage.PRODUCERS,
            f"they offered {units.rate(found.sent)} of {units.rate(found.due)} with room in their"
            f" rings; the busiest wanted a processor for {share:.0%} of the time"
            f"{_machine_said(found)}",
        )
    worker, log = found.busiest("worker"), found.log_at_work
    said = (
        f"{units.rate(found.durable)} became durable of {units.rate(found.due)} due; rings were"
        f" full for {found.ring_full:.0%} of the time; worker at work {worker:.0%}, log writer"
        f" {log:.0%} ({found.sync:.0%} in syncs){_machine_said(found)}"
    )
    if max(worker, log) < BUSY_SHARE:
        return Gave(Stage.RING, said)
    return Gave(Stage.WORKER if worker > log else Stage.LOG, said)


def _postgres_said(last: Sample, found: Rates) -> str:
    return (
        f"it took {units.rate(found.flushed)} of {units.rate(found.durable)} that became durable:"
        f" {last.lag_events:,} behind; flusher at work {found.busiest('flush'):.0%}, PostgreSQL"
        f" had {found.processors(POSTGRES):.2f} processors{_machine_said(found)}"
    )


def _machine_said(found: Rates) -> str:
    return f"; all had {found.cpu.get(MACHINE, 0.0):.2f} processors"
