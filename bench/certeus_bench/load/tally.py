"""How long events took since they were due, told by positions: one call for many events.

Events reach a position in their order, so that ``n`` are there says which. A second of a load is
100,000 times; they are counted into the buckets of the histogram that `histogram` makes, whose
layout is simple enough to do for a whole array at once.
"""

import numpy as np

from certeus_bench import histogram
from certeus_bench.load.schedule import Line, Numbers

HALF_BITS = 10
"""A bucket's times agree in so many bits behind the first: 1024 buckets for each power of two."""
HALF = 1 << HALF_BITS
BUCKETS = HALF * (histogram.HIGHEST_NS.bit_length() - HALF_BITS + 1)
BATCHES_KEPT = 100
"""They are counted together: a call costs the same for one time as for a thousand."""


def buckets_of(times_ns: Numbers) -> Numbers:
    """Numbers of the buckets that times belong to."""
    _, lengths = np.frexp(times_ns.astype(np.float64))  # bits of each, exact below 2^53
    shifts = np.maximum(lengths.astype(np.int64) - HALF_BITS - 1, 0)
    buckets: Numbers = shifts * HALF + (times_ns >> shifts)
    return buckets


def lowest_of(bucket: int) -> int:
    """The smallest time that a bucket stands for, in ns."""
    shift = max(bucket // HALF - 1, 0)
    return (bucket - shift * HALF) << shift


class Tally:
    """How far a line's events are, and how long after they were due."""

    def __init__(self, line: Line, counted_from_ns: int, interval_ns: int) -> None:
        self._line = line
        self._counted_from_ns = counted_from_ns
        self._interval_ns = interval_ns
        self._buckets: Numbers = np.zeros(BUCKETS, dtype=np.int64)
        self._waited_ns: list[Numbers] = []
        self.position = 0
        self.last_ns = counted_from_ns
        self.operations = 0
        """Due after the ramp, and there."""
        self.intervals: list[int] = []

    def reach(self, position: int, elapsed_ns: int) -> None:
        """All events before ``position`` are there, as of now."""
        if position <= self.position:
            return
        due_ns = self._line.times_ns(self.position, position)
        self.position = position
        due_ns = due_ns[np.searchsorted(due_ns, self._counted_from_ns) :]
        if not len(due_ns):
            return
        self._waited_ns.append(elapsed_ns - due_ns)
        if len(self._waited_ns) == BATCHES_KEPT:
            self._count()
        self.operations += len(due_ns)
        self.last_ns = elapsed_ns
        interval = (elapsed_ns - self._counted_from_ns) // self._interval_ns
        while len(self.intervals) <= interval:
            self.intervals.append(0)
        self.intervals[interval] += len(due_ns)

    def _count(self) -> None:
        if self._waited_ns:
            times_ns = np.minimum(np.concatenate(self._waited_ns), histogram.HIGHEST_NS)
            np.add.at(self._buckets, buckets_of(times_ns), 1)
            self._waited_ns.clear()

    def histogram(self) -> str:
        """All times, as the text that a measurement carries."""
        self._count()
        made = histogram.empty()
        for bucket in np.flatnonzero(self._buckets).tolist():
            histogram.record(made, lowest_of(bucket), int(self._buckets[bucket]))
        return histogram.encode(made)
