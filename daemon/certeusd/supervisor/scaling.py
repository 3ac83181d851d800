"""How many workers there are to be, by what was measured: a pure rule, time is passed in.

What is measured is the busiest worker's processor time. A worker that is at work nearly all the
time makes its producers wait, and another one helps, if

* at least two of its producers are at work, so that there is something to hand over; and
* nobody waits for the log writer, its disk or room in the log: that is not a worker's fault.

What keeps it from going up and down in turns, whatever the load is, as long as it stays the same:
the busiest half of a worker that is busy enough for another one (80 %) has at least 40 %, which is
too much for one fewer (35 %); and two workers that are idle enough for one fewer have at most 70 %
together, which is too little for another one. Beside that each change is followed by a time without
changes, and what calls for one has to last.
"""

from typing import NamedTuple, Protocol

from certeusd.board import WORKERS_MAX
from certeusd.config import WorkerSection

CPUS_A_WORKER = 4
WORKERS_AUTO_MAX = 8
CPUS_FOR_OTHERS = 2
"""The log writer's, and one for the flusher, PostgreSQL and the supervisor."""


class Bounds(NamedTuple):
    """The fewest and the most workers."""

    min: int
    max: int


class Load(NamedTuple):
    """What was measured in the last second."""

    busiest: str
    """Name of the worker that used most processor time."""
    percent: float
    """How much, of one CPU."""
    active: int
    """Producers that handed something over to that one."""
    waits: bool
    """Whether workers wait for the log writer, or the log has no room."""
    ready: bool
    """Whether every worker is at work."""


class Change(NamedTuple):
    """Another number of workers, and why."""

    workers: int
    why: str


class Rule(NamedTuple):
    """What calls for a change, for how long, and how long after one nothing changes."""

    busy_percent: float = 80.0
    busy_s: float = 5.0
    idle_percent: float = 35.0
    idle_s: float = 60.0
    rest_before_more_s: float = 15.0
    rest_before_fewer_s: float = 300.0


RULE = Rule()


class Policy(Protocol):
    """What the supervisor asks."""

    def bounds(self, section: WorkerSection, cpu_count: int) -> Bounds:
        """Say how many workers there may be."""
        ...

    def decide(self, current: int, bounds: Bounds, load: Load, now: float) -> Change | None:
        """Say how many there are to be from now on; a call a second."""
        ...


def automatic(cpu_count: int) -> int:
    """Return how many workers so many CPUs get: one below four, else one for each four."""
    return max(1, min(WORKERS_AUTO_MAX, cpu_count // CPUS_A_WORKER))


def bounds(section: WorkerSection, cpu_count: int) -> Bounds:
    """Say how many workers there may be.

    Args:
        section: `[worker]`; a `count` is both, a `min` or `max` of 0 is the automatic number.
        cpu_count: CPUs that this service may use.
    """
    if section.count:
        return Bounds(section.count, section.count)
    most = min(WORKERS_MAX, max(1, cpu_count - CPUS_FOR_OTHERS))
    high = min(section.max or max(automatic(cpu_count), section.min), most)
    return Bounds(min(section.min or automatic(cpu_count), high), high)


class Scaling:
    """The rule, with the little it remembers: since when what is so, and the last change."""

    def __init__(self, rule: Rule = RULE) -> None:
        assert 2 * rule.idle_percent < rule.busy_percent, "or it would go up and down in turns"
        self._rule = rule
        self._busy_since: float | None = None
        self._idle_since: float | None = None
        self._changed_at: float | None = None

    def bounds(self, section: WorkerSection, cpu_count: int) -> Bounds:
        """Say how many workers there may be."""
        return bounds(section, cpu_count)

    def decide(self, current: int, bounds: Bounds, load: Load, now: float) -> Change | None:
        """Return one worker more, or one fewer, or nothing.

        Args:
            current: how many there are.
            bounds: outside of them (another configuration) it goes back inside, one at a time,
                whatever is measured.
            load: since the last call.
            now: monotonic seconds.
        """
        if self._changed_at is None:
            self._changed_at = now
        change = self._wanted(current, bounds, load, now)
        if change is not None:
            self._changed_at = now
            self._busy_since = self._idle_since = None
        return change

    def _wanted(self, current: int, bounds: Bounds, load: Load, now: float) -> Change | None:
        assert self._changed_at is not None, "the first call is the first rest"
        if current < bounds.min:
            return Change(current + 1, f"the configuration wants {bounds.min} at least")
        if current > bounds.max:
            return Change(current - 1, f"the configuration allows {bounds.max}")
        rule, rested_s = self._rule, now - self._changed_at
        busy = (
            load.ready and load.percent >= rule.busy_percent and load.active > 1 and not load.waits
        )
        self._busy_since = _since(self._busy_since, busy, now)
        idle = load.ready and load.percent <= rule.idle_percent
        self._idle_since = _since(self._idle_since, idle, now)
        may_grow = current < bounds.max and rested_s >= rule.rest_before_more_s
        if may_grow and _lasts(self._busy_since, rule.busy_s, now):
            return Change(
                current + 1,
                f"{load.busiest} used {load.percent:.0f} % of a CPU with {load.active} producers"
                " at work there",
            )
        may_shrink = current > bounds.min and rested_s >= rule.rest_before_fewer_s
        if may_shrink and _lasts(self._idle_since, rule.idle_s, now):
            return Change(
                current - 1,
                f"no worker used more than {rule.idle_percent:g} % of a CPU for {rule.idle_s:g} s",
            )
        return None


def _since(before: float | None, holds: bool, now: float) -> float | None:
    if not holds:
        return None
    return now if before is None else before


def _lasts(since: float | None, seconds: float, now: float) -> bool:
    return since is not None and now - since >= seconds
