"""The circuit breaker that stands before a destination: whether to try it, and when.

```text
closed ──failed─▶ open
open ──due─▶ half-open
half-open ──delivered─▶ closed
half-open ──failed─▶ open
```

*closed*: batches go. *open*: nothing is sent; the log goes on growing, and is delivered later.
*half-open*: one cheap attempt is under way: connect, read the position, then one small batch. An
attempt that has nothing to deliver counts as delivered.

Pure: time is the caller's, in seconds of any clock, and so is chance. How long it stays open
follows from the cause: the pause doubles with each failure of the same cause in a row, and is
shortened at random by up to a half, so that hosts that share a server do not come back together. A
cause without a pause stays open until an admin says `retry`.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    """Whether the destination is tried."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class Event(StrEnum):
    """What moves a breaker."""

    FAILED = "failed"
    """An attempt, or a batch, came to nothing."""
    DUE = "due"
    """The pause is over, or an admin asked for an attempt."""
    DELIVERED = "delivered"
    """A batch is committed, or there was none to commit."""


MOVES: Mapping[State, Mapping[Event, State]] = {
    State.CLOSED: {Event.FAILED: State.OPEN},
    State.OPEN: {Event.DUE: State.HALF_OPEN},
    State.HALF_OPEN: {Event.DELIVERED: State.CLOSED, Event.FAILED: State.OPEN},
}
assert set(MOVES) == set(State), "every state is listed"


def drawing() -> str:
    """Draw the table, one move a line, as the head of this module shows it."""
    return "\n".join(
        f"{old} ──{event}─▶ {new}" for old, moves in MOVES.items() for event, new in moves.items()
    )


class Cause(StrEnum):
    """Why it is open."""

    AWAY = "away"
    REFUSES = "refuses"
    BROKEN = "broken"
    DEAD_LETTER_RATE = "dead-letter-rate"
    LEAF_MISSING = "leaf-missing"
    POSITION_LOST = "position-lost"
    LOG_UNREADABLE = "log-unreadable"


class Pause(NamedTuple):
    """How long a breaker stays open: from `first_s`, doubling to `last_s`."""

    first_s: float
    last_s: float


class Breaker(NamedTuple):
    """A breaker at one moment."""

    state: State
    since: float
    """When it was closed, or when it ceased to be: open and half-open take turns until then."""
    failures: int = 0
    """Failures since the last delivery."""
    cause: Cause | None = None
    """Of the last failure; none while closed."""
    repeats: int = 0
    """Failures of that cause in a row."""
    next_attempt_at: float | None = None
    """While open: when it is due; none: not before an admin asks for it."""

    @staticmethod
    def start(now: float) -> "Breaker":
        """Return the breaker of a destination that was not tried yet."""
        return Breaker(State.CLOSED, now)

    def is_due(self, now: float) -> bool:
        """Whether it is open and its pause is over."""
        at = self.next_attempt_at
        return self.state is State.OPEN and at is not None and now >= at


def transition(
    breaker: Breaker,
    event: Event,
    now: float,
    cause: Cause | None = None,
    pause: Pause | None = None,
    chance: float = 0.0,
) -> Breaker:
    """Return the breaker after an event that the table allows in its state.

    Args:
        breaker: before the event.
        event: what happened.
        now: seconds, of the caller's clock.
        cause: of a failure, and of nothing else.
        pause: of that cause; none: open until `retry`.
        chance: 0..1, shortens the pause.
    """
    moves = MOVES[breaker.state]
    assert event in moves, f"{breaker.state} knows no {event}"
    assert (cause is not None) == (event is Event.FAILED), "a failure has a cause, nothing else has"
    state = moves[event]
    if event is Event.DELIVERED:
        return Breaker(state, now)
    if event is Event.DUE:
        return breaker._replace(state=state, next_attempt_at=None)
    repeats = breaker.repeats + 1 if cause is breaker.cause else 1
    at = None if pause is None else now + delay_s(pause, repeats, chance)
    since = now if breaker.state is State.CLOSED else breaker.since
    return Breaker(state, since, breaker.failures + 1, cause, repeats, at)


def delay_s(pause: Pause, repeats: int, chance: float) -> float:
    """Return how long to wait after the `repeats`-th failure in a row."""
    assert repeats >= 1
    assert 0 < pause.first_s <= pause.last_s
    longest = min(pause.first_s * 2.0 ** min(repeats - 1, 64), pause.last_s)
    return longest * (1 - chance / 2)
