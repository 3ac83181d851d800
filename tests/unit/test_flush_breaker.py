"""The circuit breaker: its table, its drawing, its pauses."""

from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certeusd.flush import breaker
from certeusd.flush.breaker import (
    MOVES,
    Breaker,
    Cause,
    Event,
    Pause,
    State,
    delay_s,
    drawing,
    transition,
)
from certeusd.flush.settings import Settings

PAUSE = Pause(1.0, 8.0)


def in_state(state: State) -> Breaker:
    return Breaker(state, 0.0)


def move(before: Breaker, event: Event, now: float = 0.0, cause: Cause = Cause.AWAY) -> Breaker:
    failed = event is Event.FAILED
    return transition(before, event, now, cause if failed else None, PAUSE if failed else None)


@pytest.mark.parametrize(("state", "event"), list(product(State, Event)))
def test_only_moves_of_the_table_are_allowed(state: State, event: Event) -> None:
    if event in MOVES[state]:
        assert move(in_state(state), event).state is MOVES[state][event]
    else:
        with pytest.raises(AssertionError):
            move(in_state(state), event)


def test_the_drawing_is_made_from_the_table() -> None:
    text = Path(breaker.__file__).read_text()
    drawn = text.split("```text\n")[1].split("```")[0]
    assert drawn.strip() == drawing()


def test_pauses_double_for_the_same_cause_and_start_anew_for_another() -> None:
    now, at = in_state(State.CLOSED), list[float | None]()
    causes = [Cause.AWAY] * 6 + [Cause.REFUSES] * 2
    for cause in causes:
        now = move(now, Event.FAILED, 100.0, cause)
        at.append(now.next_attempt_at)
        now = move(now, Event.DUE, 100.0)
    assert at == [101, 102, 104, 108, 108, 108, 101, 102]
    assert now.failures == 8
    assert move(now, Event.DELIVERED, 200.0) == Breaker(State.CLOSED, 200.0)


def test_since_tells_when_the_trouble_began() -> None:
    now = move(in_state(State.CLOSED), Event.FAILED, 10.0)
    now = move(move(now, Event.DUE, 20.0), Event.FAILED, 30.0)
    assert (now.state, now.since, now.failures) == (State.OPEN, 10.0, 2)


def test_it_is_due_at_its_time_and_without_one_never() -> None:
    opened = move(in_state(State.CLOSED), Event.FAILED, 10.0)
    assert [opened.is_due(at) for at in (10.0, 10.9, 11.0, 12.0)] == [False, False, True, True]
    for_good = transition(in_state(State.CLOSED), Event.FAILED, 10.0, Cause.BROKEN, None)
    assert not for_good.is_due(1e9)
    assert move(for_good, Event.DUE, 11.0).state is State.HALF_OPEN


@given(st.integers(1, 10_000), st.floats(0, 1))
def test_a_pause_is_jittered_and_bounded(repeats: int, chance: float) -> None:
    wait = delay_s(PAUSE, repeats, chance)
    longest = min(PAUSE.last_s, PAUSE.first_s * 2.0 ** (repeats - 1)) if repeats < 99 else 8.0
    assert longest / 2 <= wait <= longest


def test_every_cause_has_a_pause_but_damage() -> None:
    settings = Settings("", None, Path(), Path())  # type: ignore[arg-type]  # pauses need none
    assert set(settings.pauses()) == set(Cause) - {Cause.BROKEN}
