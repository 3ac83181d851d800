"""Token buckets: how many events a peer may append a second, in the long run.

A bucket holds a second's worth of events, and fills at that rate. A request is let in while there
is something in it, and costs what it brings, even where that takes the bucket below zero: nobody
knows how long a stream is before it has ended, and a batch that is larger than a bucket must be
taken at some time. Whoever comes next waits until it is above zero again.

Pure: time is passed in, monotonic seconds.
"""

import math
from dataclasses import dataclass

PEERS_MAX = 1024


@dataclass(slots=True)
class _Level:
    events: float
    at: float


class Bucket:
    """Buckets by peer; `events_per_s_max` 0: there are none, and everything is let in."""

    def __init__(self, events_per_s_max: int, peers_max: int = PEERS_MAX) -> None:
        self._rate = events_per_s_max
        self._peers_max = peers_max
        self._levels: dict[str, _Level] = {}

    def __len__(self) -> int:
        return len(self._levels)

    def wait_s(self, peer: str, now: float) -> float:
        """Return the seconds until a peer is let in; 0: it is now."""
        level = self._level(peer, now)
        return 0.0 if level > 0 else (1.0 - level) / self._rate

    def charge(self, peer: str, events: int, now: float) -> None:
        """Take what a request that was let in has brought, one at least."""
        if not self._rate:
            return
        left = self._level(peer, now) - max(1, events)
        self._levels.pop(peer, None)  # The last that was charged is the last in the order.
        self._levels[peer] = _Level(left, now)
        if len(self._levels) > self._peers_max:
            self._forget(now)

    def take(self, peer: str, events: int, now: float) -> float:
        """Charge a peer that is let in; else return the seconds until it is, and charge nothing."""
        wait_s = self.wait_s(peer, now)
        if wait_s <= 0:
            self.charge(peer, events, now)
        return wait_s

    def _level(self, peer: str, now: float) -> float:
        if not self._rate:
            return math.inf
        known = self._levels.get(peer)
        if known is None:
            return float(self._rate)
        return min(self._rate, known.events + max(0.0, now - known.at) * self._rate)

    def _forget(self, now: float) -> None:
        """Forget who is full again; where nobody is, who is nearest to it and gains the least."""
        full = [peer for peer in self._levels if self._level(peer, now) >= self._rate]
        for peer in full or [max(self._levels, key=lambda peer: self._level(peer, now))]:
            del self._levels[peer]
