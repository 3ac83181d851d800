"""The state of the whole service, and the reasons for it.

```text
starting ──▶ recovering ──▶ ready ◀──▶ degraded
    │            │  ▲─────────┴───────────┘ │
    └────────────┴────────▶ draining ◀──────┘
```

`recovering`: there is no log writer that could commit (at the start, and after its death). `ready`
and `degraded` take events; a reason is what makes the difference.
"""

from enum import StrEnum
from typing import NamedTuple


class State(StrEnum):
    """What `status` calls the service."""

    STARTING = "starting"
    RECOVERING = "recovering"
    READY = "ready"
    DEGRADED = "degraded"
    DRAINING = "draining"


MOVES: dict[State, frozenset[State]] = {
    State.STARTING: frozenset({State.RECOVERING, State.DRAINING}),
    State.RECOVERING: frozenset({State.READY, State.DEGRADED, State.DRAINING}),
    State.READY: frozenset({State.DEGRADED, State.RECOVERING, State.DRAINING}),
    State.DEGRADED: frozenset({State.READY, State.RECOVERING, State.DRAINING}),
    State.DRAINING: frozenset(),
}
assert set(MOVES) == set(State), "every state is listed"

TAKES_EVENTS = frozenset({State.READY, State.DEGRADED})


def transition(old: State, new: State) -> State:
    """Move, if the table allows it; staying is no move."""
    assert old == new or new in MOVES[old], f"{old} cannot become {new}"
    return new


class Facts(NamedTuple):
    """What the state follows from."""

    draining: bool
    log_spawned: bool
    log_ready: bool
    workers_ready: int
    reasons: int


def target(facts: Facts) -> State:
    """Return the state that the facts ask for; `next_state` finds the way there."""
    if facts.draining:
        return State.DRAINING
    if not facts.log_spawned:
        return State.STARTING
    if not facts.log_ready or facts.workers_ready == 0:
        return State.RECOVERING
    return State.DEGRADED if facts.reasons else State.READY


def next_state(old: State, facts: Facts) -> State:
    """One allowed step from `old` towards what the facts ask for; call until it stays."""
    wanted = target(facts)
    if wanted == old or old is State.DRAINING:
        return old
    if wanted in MOVES[old]:
        return transition(old, wanted)
    return transition(old, State.RECOVERING) if old is not State.RECOVERING else old


class Reason(NamedTuple):
    """Why the service is degraded."""

    code: str
    since: float
    """Seconds since 1970."""
    what: str
    next: str


class Reasons:
    """Active reasons by who told them; a child's go with its life."""

    def __init__(self) -> None:
        self._reasons: dict[tuple[str, str], Reason] = {}

    def __len__(self) -> int:
        return len(self._reasons)

    def add(self, owner: str, code: str, what: str, next: str, now: float) -> bool:
        """Note a reason; what was there keeps its `since`. Returns whether it is new."""
        known = self._reasons.get((owner, code))
        since = known.since if known else now
        self._reasons[owner, code] = Reason(code, since, what, next)
        return known is None

    def remove(self, owner: str, code: str) -> bool:
        """Forget a reason; returns whether it was there."""
        return self._reasons.pop((owner, code), None) is not None

    def tell(self, owner: str, code: str, what: str, next: str, now: float) -> None:
        """Note a reason; without `what`: forget it."""
        if what:
            self.add(owner, code, what, next, now)
        else:
            self.remove(owner, code)

    def forget(self, owner: str) -> None:
        """Forget all that `owner` told."""
        for key in [key for key in self._reasons if key[0] == owner]:
            del self._reasons[key]

    def told_by(self, owner: str) -> bool:
        """Whether `owner` has an active reason."""
        return any(key[0] == owner for key in self._reasons)

    def listed(self) -> list[Reason]:
        """All, the oldest first."""
        return sorted(self._reasons.values(), key=lambda reason: (reason.since, reason.code))
