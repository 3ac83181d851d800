"""Which stage holds the others up, from what was counted in the last seconds.

```text
ingest ─▶ validate ─▶ verify ─▶ protect ─▶ commit ─▶ deliver
└──────────── a worker ─────────────────┘   log      flusher and PostgreSQL
```

Back-pressure goes from right to left, so the question is asked from right to left, too: a full log
waits for the delivery, a worker that waits for room waits for the log writer, and only who waits
for nobody and is at work all the time is slow himself. That events wait for PostgreSQL in a log
with room holds nobody up; it is told all the same, since the rows are late.
"""

from collections import deque
from itertools import pairwise
from typing import NamedTuple

from certeusd.control.types import Bottleneck

WINDOW_TICKS = 5
AT_WORK_PERCENT = 90.0
BEHIND_SHARE = 0.05
"""So much of what comes in must stay behind before the delivery is called slow."""
BEHIND_EVENTS_MIN = 10_000


class Sample(NamedTuple):
    """What is looked at, once a tick."""

    durable_seq: int
    flushed_seq: int
    forward_full: int
    """Waits of all workers for room towards the log writer, so far."""
    worker_percent: float
    """Processor time of the busiest worker."""
    no_room: bool
    """Whether the log is full, or its disk."""
    delivers: bool
    """Whether there is a connection to PostgreSQL."""


class Bottlenecks:
    """Keeps some seconds of samples."""

    def __init__(self) -> None:
        self._samples: deque[Sample] = deque(maxlen=WINDOW_TICKS + 1)

    def add(self, sample: Sample) -> None:
        """Note the newest; a call a tick."""
        self._samples.append(sample)

    def find(self) -> Bottleneck | None:
        """Name the stage; none: nobody waits, or it is too early to say."""
        if len(self._samples) <= WINDOW_TICKS:
            return None
        return judge(list(self._samples))


def judge(samples: list[Sample]) -> Bottleneck | None:
    """Judge the samples of a window, the oldest first; pure."""
    first, last = samples[0], samples[-1]
    ticks = len(samples) - 1
    if last.no_room:
        why = "the delivery frees it" if last.delivers else "PostgreSQL is away"
        return Bottleneck("deliver", f"the log has no room for more until {why}")
    waits = [later.forward_full - one.forward_full for one, later in pairwise(samples)]
    if all(waits):
        return Bottleneck(
            "commit", f"workers wait for the log writer, {sum(waits) / ticks:.0f} times a second"
        )
    if min(one.worker_percent for one in samples[1:]) >= AT_WORK_PERCENT:
        return Bottleneck(
            "ingest", f"a worker is at work all the time ({last.worker_percent:.0f} % of a CPU)"
        )
    came = last.durable_seq - first.durable_seq
    went = last.flushed_seq - first.flushed_seq
    waiting = last.durable_seq - last.flushed_seq
    if came and waiting >= BEHIND_EVENTS_MIN and came - went > BEHIND_SHARE * came:
        return Bottleneck(
            "deliver",
            f"{came / ticks:.0f} events/s come and {went / ticks:.0f} rows/s go:"
            " nobody waits, as long as the log has room",
        )
    return None
