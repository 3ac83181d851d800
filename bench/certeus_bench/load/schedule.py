"""When each event is due: arithmetic alone, no clock.

An open line does not wait for answers: event ``k`` is due at a time that was fixed before the load
began. Whoever measures from then on counts all the waiting there is, also that of events which were
due while everything stood still and could only be sent afterwards (Gil Tene's coordinated omission
is to leave exactly those out). A plan says when all events are due; a `Line` deals them out to
producers like cards, so that each has its share of the rate and its own times.
"""

import math

import msgspec
import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

BURST_SECONDS = 0.5
"""From the beginning of one burst to that of the next."""
BURST_SHARE = 0.2
"""Of that time something is due, then at five times the mean rate."""
CHUNK = 16_384


class Ramp(msgspec.Struct, frozen=True, tag=True):
    """Linearly up to a rate, and steady from there on."""

    target_per_second: float
    ramp_seconds: float
    seconds: float
    """In all."""

    def due_s(self, events: Floats) -> Floats:
        """Seconds after the start at which events are due, by their numbers from 0."""
        rising_count = self.target_per_second * self.ramp_seconds / 2
        rising = np.sqrt(2 * self.ramp_seconds * events / self.target_per_second)
        steady = self.ramp_seconds + (events - rising_count) / self.target_per_second
        due_s: Floats = np.where(events < rising_count, rising, steady)
        return due_s


class Stairs(msgspec.Struct, frozen=True, tag=True):
    """One rate after the other, each for the same time."""

    rates_per_second: list[float]
    step_seconds: float

    @property
    def seconds(self) -> float:
        """In all."""
        return len(self.rates_per_second) * self.step_seconds

    def due_s(self, events: Floats) -> Floats:
        """As that of `Ramp`."""
        counts = np.array([0.0, *self.rates_per_second]) * self.step_seconds
        ends_s = np.arange(len(counts)) * self.step_seconds
        due_s: Floats = np.interp(events, np.cumsum(counts), ends_s, right=math.inf)
        return due_s


Plan = Ramp | Stairs


def rates(first: float, factor: float, last: float) -> list[float]:
    """Rates from ``first`` on, each ``factor`` times the one before, up to ``last``."""
    assert factor > 1, "otherwise it never ends"
    count = 1 + math.floor(math.log(last / first) / math.log(factor) + 1e-9)
    return [first * factor**step for step in range(count)]


def in_bursts(due_s: Floats) -> Floats:
    """The same events, those of each `BURST_SECONDS` all due in its first `BURST_SHARE`."""
    begins = np.floor(due_s / BURST_SECONDS) * BURST_SECONDS
    return begins + (due_s - begins) * BURST_SHARE


class Line:
    """What is due at one of several producers: events ``worker``, ``worker + workers``, ...

    Its events are counted from 0, its times are ns since the start, and those that are done with
    are forgotten.
    """

    def __init__(self, plan: Plan, worker: int, workers: int, *, bursts: bool) -> None:
        self._plan = plan
        self._worker = worker
        self._workers = workers
        self._bursts = bursts
        self._times_ns: Numbers = np.empty(0, dtype=np.int64)
        self._forgotten = 0
        self._whole = False

    def due(self, elapsed_ns: int) -> int:
        """How many events were due by then."""
        while not self._whole and (not len(self._times_ns) or self._times_ns[-1] <= elapsed_ns):
            self._extend()
        return self._forgotten + int(np.searchsorted(self._times_ns, elapsed_ns, side="right"))

    def is_whole(self, count: int) -> bool:
        """Whether no event follows the first ``count``."""
        return self._whole and count >= self._forgotten + len(self._times_ns)

    def times_ns(self, first: int, end: int) -> Numbers:
        """When events from ``first``, before ``end``, are due."""
        return self._times_ns[first - self._forgotten : end - self._forgotten]

    def forget(self, first: int) -> None:
        """Nobody will ask for events before that again."""
        done = first - self._forgotten
        if done > len(self._times_ns) // 2:  # seldom: what is kept is copied
            self._times_ns = self._times_ns[done:].copy()
            self._forgotten = first

    def cut(self, count: int) -> None:
        """Nothing is due beyond the first ``count`` events."""
        self._times_ns = self._times_ns[: count - self._forgotten]
        self._whole = True

    def _extend(self) -> None:
        first = self._forgotten + len(self._times_ns)
        numbers = np.arange(first, first + CHUNK, dtype=np.float64) * self._workers + self._worker
        due_s = self._plan.due_s(numbers)
        due_s = due_s[due_s < self._plan.seconds]
        self._whole = len(due_s) < CHUNK
        if self._bursts:
            due_s = in_bursts(due_s)
        times_ns = np.round(due_s * 1e9).astype(np.int64)
        self._times_ns = np.concatenate([self._times_ns, times_ns])
