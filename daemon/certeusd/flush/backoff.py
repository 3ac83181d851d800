"""Waiting longer and longer, with jitter, between attempts."""

from collections.abc import Callable


class Backoff:
    """Delays from `first_s` doubling to `last_s`, each shortened at random by up to a half."""

    def __init__(self, first_s: float, last_s: float, random: Callable[[], float]) -> None:
        assert 0 < first_s <= last_s
        self._first_s = first_s
        self._last_s = last_s
        self._random = random
        self._next_s = first_s

    def delay_s(self) -> float:
        """Return how long to wait now; the next answer is longer."""
        delay_s = self._next_s * (1 - self._random() / 2)
        self._next_s = min(self._next_s * 2, self._last_s)
        return delay_s

    def reset(self) -> None:
        """Begin again: an attempt has succeeded."""
        self._next_s = self._first_s
