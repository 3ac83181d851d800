"""When a dead child is started again."""

import pytest

from certeusd.supervisor.backoff import CRASH_LOOP_LIVES, LAST_S, Backoff


def test_first_restart_is_at_once_then_doubles_to_a_second() -> None:
    backoff = Backoff()
    waits = [backoff.died() for _ in range(11)]
    assert waits == pytest.approx([0, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1, 1, 1])
    assert backoff.restarts == 11


def test_progress_starts_anew() -> None:
    backoff = Backoff()
    for _ in range(20):
        backoff.died()
    assert backoff.crash_loop
    backoff.progress()
    assert not backoff.crash_loop
    assert backoff.died() == 0
    assert backoff.died() == 0
    assert backoff.died() == pytest.approx(0.01)


def test_lives_with_progress_never_are_a_crash_loop() -> None:
    backoff = Backoff()
    for _ in range(1000):
        backoff.progress()
        assert backoff.died() == 0
    assert not backoff.crash_loop


def test_crash_loop_still_tries_each_second() -> None:
    backoff = Backoff()
    for _ in range(CRASH_LOOP_LIVES + 5000):
        assert backoff.died() <= LAST_S
    assert backoff.crash_loop
