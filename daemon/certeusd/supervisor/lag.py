"""How long the oldest event waits that PostgreSQL has not: from a sample a tick, however long ago.

Only ticks at which the durable position had moved are kept. When there are many, every second one
goes: a wait of a day is then known to the minute, in the same memory.
"""

import time

SAMPLES_MAX = 3600


class Lag:
    """When which number was durable."""

    def __init__(self) -> None:
        self._samples: list[tuple[float, int]] = []

    def note(self, durable_seq: int) -> None:
        """Note the durable position; a call a tick."""
        if self._samples and self._samples[-1][1] == durable_seq:
            return
        if len(self._samples) == SAMPLES_MAX:
            del self._samples[1::2]
        self._samples.append((time.monotonic(), durable_seq))

    def seconds(self, flushed_seq: int) -> float:
        """Return how long ago the durable position first passed what PostgreSQL has."""
        for at, durable_seq in self._samples:
            if durable_seq > flushed_seq:
                return round(time.monotonic() - at, 3)
        return 0.0
