"""The state machine of the service."""

from itertools import product
from pathlib import Path

import pytest

from certeusd.supervisor import state
from certeusd.supervisor.state import (
    MOVES,
    TAKES_EVENTS,
    Facts,
    Reasons,
    State,
    next_state,
    target,
    transition,
)


@pytest.mark.parametrize(("old", "new"), list(product(State, State)))
def test_only_moves_of_the_table_are_allowed(old: State, new: State) -> None:
    if old == new or new in MOVES[old]:
        assert transition(old, new) is new
    else:
        with pytest.raises(AssertionError):
            transition(old, new)


def test_every_fact_leads_to_its_state_from_every_state() -> None:
    every = product((False, True), (False, True), (False, True), (0, 2), (0, 1))
    for facts in (Facts(*values) for values in every):
        for old in State:
            now = old
            for _ in range(len(State)):
                now = next_state(now, facts)
            if old is State.DRAINING:
                assert now is State.DRAINING
            elif target(facts) is State.STARTING and old is not State.STARTING:
                assert now is State.RECOVERING, "a start happens once"
            else:
                assert now is target(facts)


def test_events_are_taken_only_where_a_log_writer_and_a_worker_are_ready() -> None:
    every = product((False, True), (False, True), (False, True), (0, 2), (0, 1))
    for facts in (Facts(*values) for values in every):
        able = not facts.draining and facts.log_spawned and facts.log_ready
        able = able and facts.workers_ready > 0
        assert (target(facts) in TAKES_EVENTS) == able, facts
        assert (target(facts) is State.DEGRADED) == (able and facts.reasons > 0), facts


def test_drawing_names_every_state() -> None:
    text = Path(state.__file__).read_text().split('"""')[1]
    assert all(name.value in text for name in State)


def test_reason_keeps_its_since_and_goes_with_its_owner() -> None:
    reasons = Reasons()
    assert reasons.add("flush", "postgres-away", "a", "b", 10.0)
    assert not reasons.add("flush", "postgres-away", "c", "d", 20.0)
    assert reasons.add("log", "log-full", "", "", 5.0)
    assert [(r.code, r.since, r.what) for r in reasons.listed()] == [
        ("log-full", 5.0, ""),
        ("postgres-away", 10.0, "c"),
    ]
    reasons.forget("flush")
    assert [r.code for r in reasons.listed()] == ["log-full"]
    assert reasons.remove("log", "log-full")
    assert not reasons.remove("log", "log-full")
    assert len(reasons) == 0
