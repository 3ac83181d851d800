"""How long the oldest event waits that PostgreSQL has not: from a sample a tick, however long ago.

Only what is not flushed yet is kept. When that is much, every second sample goes, and new ones come
half as often: a wait of a day is then known to the minute, in the same memory.
"""

import time
from collections import deque

SAMPLES_MAX = 3600


class Lag:
    """When which number was durable."""

    def __init__(self) -> None:
        self._samples = deque[tuple[float, int]]()
        self._spacing_s = 0.0

    def note(self, durable_seq: int, flushed_seq: int) -> None:
        """Note both positions; a call a tick."""
        samples, now = self._samples, time.monotonic()
        while samples and samples[0][1] <= flushed_seq:
            samples.popleft()
        if not samples:
            self._spacing_s = 0.0
        elif samples[-1][1] == durable_seq or now - samples[-1][0] < self._spacing_s:
            return
        if len(samples) == SAMPLES_MAX:
            self._samples = deque(list(samples)[::2])
            self._spacing_s = 2 * (now - samples[0][0]) / SAMPLES_MAX
        self._samples.append((now, durable_seq))

    def seconds(self, flushed_seq: int) -> float:
        """Return how long ago the durable position first passed what PostgreSQL has."""
        for at, durable_seq in self._samples:
            if durable_seq > flushed_seq:
                return round(time.monotonic() - at, 3)
        return 0.0
