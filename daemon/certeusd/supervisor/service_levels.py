"""Whether the service keeps what `[sla]` promises, over a window that moves with the clock.

```
 slot     slot     slot     slot (open)
┌────────┬────────┬────────┬──────┐
│ growth │ growth │ growth │ ...  │ ◀ look, each second: cumulative histograms, taken or not
└────────┴────────┴────────┴──────┘
 ▲ dropped when all of it is older than the window
```

A slot keeps by how much the histograms grew in it, and how long events were not taken: no more
memory after a year than after an hour. Counts that went back belong to another board or page: they
are counted from nothing. Between two looks events were taken if both say so: doubt counts against
us. What is missing is held against the whole window, as a budget is: a start of two seconds must
not count for more in its first minutes than it does in an hour. So what was before the daemon's
start, when nobody looked, counts as kept; `since` says when that was.
"""

import math
import time
from collections import Counter, deque
from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

from certeusd.board import HISTOGRAM_WORDS, Board
from certeusd.config import SlaSection
from certeusd.control.sla import Objective, Sla
from certeusd.control.types import rfc3339
from certeusd.histogram import grown, quantile

SLOTS = 360
"""That a window has; after a change of the window there may be twice as many."""
SLOT_S_MIN = 10.0
SHARE = 0.99
NS_PER_MS = 1e6

Histograms = Sequence[Sequence[int]]


class Look(NamedTuple):
    """What was seen at a time."""

    at: float
    """Seconds of a clock that never goes back."""
    taken: bool
    """Whether events were taken, and there was room for them."""
    acks: Histograms
    """Nanoseconds to the verdict, cumulative; one a worker."""
    rows: Histograms
    """Nanoseconds from a record to its row, cumulative."""


def look(board: Board, workers: int, *, taken: bool) -> Look:
    """Look now."""
    return Look(
        at=time.monotonic(),
        taken=taken,
        acks=[board.counts("worker", "ack_ns_buckets_64", slot) for slot in range(workers)],
        rows=[board.counts("flush", "delivery_ns_buckets_64")],
    )


class _Slot:
    """A part of the window."""

    def __init__(self, began: float) -> None:
        self.began = self.ended = began
        self.watched_s = 0.0
        self.missing_s = 0.0
        self.looks = 0
        self.acks = Counter[int]()
        self.rows = Counter[int]()

    def add(self, before: Look | None, now: Look) -> None:
        """Count what happened between two looks."""
        if before is not None:
            elapsed = max(0.0, now.at - before.at)
            self.watched_s += elapsed
            self.missing_s += 0.0 if before.taken and now.taken else elapsed
        self.looks += 1
        self.ended = now.at
        _count(self.acks, before.acks if before else (), now.acks)
        _count(self.rows, before.rows if before else (), now.rows)


def _count(counter: Counter[int], before: Histograms, now: Histograms) -> None:
    for old, new in zip_longest(before, now, fillvalue=()):
        # A histogram that is gone has grown by nothing.
        for bucket, count in enumerate(grown(old, new) if new else ()):
            if count:
                counter[bucket] += count


class ServiceLevels:
    """Measures what was noted; reads no clock and no board."""

    def __init__(self, section: SlaSection) -> None:
        self._section = section
        self._slots = deque[_Slot](maxlen=2 * SLOTS)
        self._last: Look | None = None

    def configure(self, section: SlaSection) -> None:
        """Have other objectives, or another window: what is older than it goes with the next look.

        A longer one fills up from what is there.
        """
        self._section = section

    def note(self, now: Look) -> None:
        """Take a look into account; the counts of the first one are all of its time."""
        last = self._last
        slot_s = max(SLOT_S_MIN, self._section.window_s / SLOTS)
        if not self._slots or now.at - self._slots[-1].began >= slot_s:
            self._slots.append(_Slot(now.at if last is None else last.at))
        self._slots[-1].add(last, now)
        self._last = now
        while self._slots[0].ended <= now.at - self._section.window_s:
            self._slots.popleft()

    def now(self, wall: float) -> Sla:
        """Compare what was noted with the objectives; `wall`: seconds since 1970 at the last look.

        Nothing measured misses no objective.
        """
        began = wall - (self._slots[-1].ended - self._slots[0].began if self._slots else 0.0)
        since, section = rfc3339(began), self._section
        acks, rows = Counter[int](), Counter[int]()
        for slot in self._slots:
            acks.update(slot.acks)
            rows.update(slot.rows)
        objectives = [
            _latency("ack_p99", section.ack_p99_ms, acks, since),
            _latency("row_p99", section.row_p99_ms, rows, since),
            self._availability(since),
        ]
        return Sla(
            window_seconds=section.window_s,
            objectives=objectives,
            met=all(one.met for one in objectives),
        )

    def _availability(self, since: str) -> Objective:
        watched_s = sum(slot.watched_s for slot in self._slots)
        missing_s = sum(slot.missing_s for slot in self._slots)
        share = 1.0 - missing_s / max(watched_s, self._section.window_s)
        # Cut, not rounded: nearly always is not always.
        measured = math.floor(share * 1e6) / 1e6 if watched_s else None
        objective = self._section.availability
        return Objective(
            name="availability",
            objective=objective,
            measured=measured,
            upper_bound=None,
            unit="ratio",
            met=measured is None or measured >= objective,
            samples=sum(slot.looks for slot in self._slots),
            since=since,
        )


def _latency(name: str, objective_ms: float, counter: Counter[int], since: str) -> Objective:
    counts = [counter[bucket] for bucket in range(HISTOGRAM_WORDS)]
    found_ns = quantile(counts, SHARE)
    measured = None if found_ns is None else round(found_ns / NS_PER_MS, 6)
    return Objective(
        name=name,
        objective=objective_ms,
        measured=measured,
        upper_bound=None if found_ns is None else bound_ns(found_ns) / NS_PER_MS,
        unit="milliseconds",
        met=measured is None or measured <= objective_ms,
        samples=sum(counts),
        since=since,
    )


def bound_ns(value: float) -> int:
    """Return the end of the bucket in which a quantile was found."""
    return 1 << (math.ceil(value) - 1).bit_length() if value > 0 else 0
