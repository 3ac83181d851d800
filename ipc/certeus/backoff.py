"""When to connect again."""

import random
import time

BACKOFF_FIRST_S = 0.01
BACKOFF_MAX_S = 1.0


class Backoff:
    """When to connect again: at once after a session that was of use, else 10 ms to 1 s."""

    def __init__(self) -> None:
        self._next_s = 0.0
        self._due: float | None = None
        self._since: tuple[float, int] | None = (time.monotonic(), 0)

    def connected(self, settled: int) -> None:
        """Note that a session begins."""
        self._since = (time.monotonic(), settled)
        self._due = None

    def lost(self, settled: int) -> float:
        """Tell the seconds to wait before the next attempt; at 0 the caller makes it."""
        now = time.monotonic()
        if self._since is not None:
            at, before = self._since
            self._since = None
            if settled > before or now - at >= BACKOFF_MAX_S:
                self._next_s = 0.0
        if self._due is None:
            self._due = now + self._next_s * random.uniform(0.5, 1.0)
        if self._due > now:
            return self._due - now
        self._due = None
        self._next_s = min(max(self._next_s * 2, BACKOFF_FIRST_S), BACKOFF_MAX_S)
        return 0.0
