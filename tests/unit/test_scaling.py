"""How many workers there are to be: tables of what was measured, with a clock of our own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certeusd.config import WorkerSection
from certeusd.supervisor.scaling import (
    Bounds,
    Load,
    Rule,
    Scaling,
    bounds,
)

RULE = Rule()
LONG_AGO_S = RULE.rest_before_fewer_s
BUSY = Load("worker-0", 95.0, 4, waits=False, ready=True)
IDLE = Load("worker-0", 5.0, 0, waits=False, ready=True)
CALM = Load("worker-0", 60.0, 4, waits=False, ready=True)
WIDE = Bounds(1, 8)


# --- how many there may be -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cpus", "keys", "wanted"),
    [
        # What is not set is the automatic number, which does not change.
        (1, {}, (1, 1)),
        (2, {}, (1, 1)),
        (4, {}, (1, 1)),
        (16, {}, (4, 4)),
        (64, {}, (8, 8)),
        # Two CPUs stay at one, whatever is asked for.
        (2, {"max": 8}, (1, 1)),
        (2, {"min": 4, "max": 8}, (1, 1)),
        (3, {"max": 8}, (1, 1)),
        (4, {"max": 8}, (1, 2)),
        (8, {"max": 8}, (2, 6)),
        (10, {"max": 8}, (2, 8)),
        (64, {"max": 8}, (8, 8)),
        (64, {"min": 1, "max": 48}, (1, 48)),
        (64, {"min": 1, "max": 64}, (1, 62)),
        (128, {"min": 1, "max": 64}, (1, 64)),
        # One of the two.
        (64, {"max": 4}, (4, 4)),
        (16, {"min": 1}, (1, 4)),
        (16, {"min": 6}, (6, 6)),
        (16, {"min": 1, "max": 20}, (1, 14)),
        # A fixed number is meant so.
        (2, {"count": 3}, (3, 3)),
        (64, {"count": 64}, (64, 64)),
    ],
)
def test_bounds_follow_the_keys_and_leave_two_cpus(
    cpus: int, keys: dict[str, int], wanted: tuple[int, int]
) -> None:
    assert bounds(WorkerSection(**keys), cpus) == wanted


@given(st.integers(1, 256), st.integers(0, 64), st.integers(0, 64))
def test_there_is_always_one_and_never_more_than_cpus_less_two(
    cpus: int, least: int, most: int
) -> None:
    found = bounds(WorkerSection(min=least, max=most), cpus)
    assert 1 <= found.min <= found.max <= max(1, cpus - 2)
    assert not most or found.max <= most


# --- when it changes -----------------------------------------------------------------------------


def asked(
    loads: list[tuple[int, Load]], current: int = 2, bounds: Bounds = WIDE
) -> list[tuple[int, int]]:
    """Ask each second, so many times each load; seconds and numbers of what was decided."""
    policy, now, found = Scaling(), 0, list[tuple[int, int]]()
    for seconds, load in loads:
        for _ in range(seconds):
            change = policy.decide(current, bounds, load, float(now))
            if change is not None:
                assert change.why
                current = change.workers
                found.append((now, current))
            now += 1
    return found


REST = (int(LONG_AGO_S), CALM)


@pytest.mark.parametrize(
    ("loads", "wanted"),
    [
        # Busy for long enough: one more, and a rest.
        ([REST, (30, BUSY)], [(305, 3), (320, 4)]),
        # Not for long enough, again and again.
        ([REST, *[(5, BUSY), (1, CALM)] * 9], []),
        # The first rest begins with the start.
        ([(16, BUSY)], [(15, 3)]),
        # Another worker would not help.
        ([REST, (60, BUSY._replace(active=1))], []),
        ([REST, (60, BUSY._replace(waits=True))], []),
        ([REST, (60, BUSY._replace(ready=False))], []),
        ([REST, (60, BUSY._replace(percent=RULE.busy_percent - 0.1))], []),
        # Idle for long enough: one fewer, down to the least.
        ([REST, (60, IDLE)], []),
        ([REST, (61, IDLE)], [(360, 1)]),
        ([REST, (999, IDLE)], [(360, 1)]),
        ([REST, *[(59, IDLE), (1, CALM)] * 9], []),
        ([REST, (99, IDLE._replace(percent=RULE.idle_percent + 0.1))], []),
        # Somebody is being started again: nobody goes just now.
        ([REST, (99, IDLE._replace(ready=False))], []),
        # That the log writer is slow keeps nobody who has nothing to do.
        ([REST, (99, IDLE._replace(waits=True))], [(360, 1)]),
        # Who has just come stays for a while.
        ([REST, (6, BUSY), (320, IDLE)], [(305, 3), (605, 2)]),
    ],
)
def test_the_number_changes_for_what_lasts(
    loads: list[tuple[int, Load]], wanted: list[tuple[int, int]]
) -> None:
    assert asked(loads) == wanted


def test_the_bounds_hold_at_both_ends() -> None:
    assert asked([(9999, BUSY)], bounds=Bounds(1, 3)) == [(15, 3)]
    assert asked([(9999, IDLE)], bounds=Bounds(2, 3)) == []
    assert asked([(9999, BUSY), (9999, IDLE)], bounds=Bounds(2, 2)) == []


def test_another_configuration_is_followed_at_once_one_at_a_time() -> None:
    assert asked([(3, CALM)], current=1, bounds=Bounds(3, 4)) == [(0, 2), (1, 3)]
    assert asked([(3, BUSY)], current=6, bounds=Bounds(1, 4)) == [(0, 5), (1, 4)]


def test_the_reason_names_who_was_busy_and_how_much() -> None:
    policy = Scaling(Rule(busy_s=0.0, rest_before_more_s=0.0))
    change = policy.decide(1, WIDE, BUSY, 0.0)
    assert change is not None
    assert change.why == "worker-0 used 95 % of a CPU with 4 producers at work there"
