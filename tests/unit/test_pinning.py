"""Which process runs where."""

import pytest

from certeusd.config_sources import ConfigError
from certeusd.supervisor.pinning import Plan, plan


@pytest.mark.parametrize("allowed", [{0}, {0, 1}, {5, 63, 64}])
def test_below_four_cpus_one_worker_and_nothing_pinned(allowed: set[int]) -> None:
    assert plan("auto", 0, allowed) == Plan(1, None, (None,))


def test_from_four_on_hot_processes_have_a_cpu_each() -> None:
    assert plan("auto", 0, {0, 1, 2, 3}) == Plan(1, 3, (2,))
    assert plan("auto", 0, set(range(8))) == Plan(2, 7, (6, 5))


def test_sparse_sets_use_only_what_is_allowed() -> None:
    allowed = {2, 3, 17, 40, 41, 90, 91, 200}
    placed = plan("auto", 0, allowed)
    assert placed == Plan(2, 200, (91, 90))
    assert {placed.log, *placed.worker} <= allowed


def test_count_is_what_is_configured() -> None:
    assert plan("auto", 2, {0, 1}) == Plan(2, None, (None, None))
    assert plan("auto", 0, set(range(128))).workers == 8


def test_nothing_is_pinned_when_no_cpu_would_be_left() -> None:
    assert plan("auto", 3, {0, 1, 2, 3}) == Plan(3, None, (None, None, None))


def test_off_pins_nothing() -> None:
    assert plan("off", 0, set(range(16))) == Plan(4, None, (None,) * 4)


def test_list_is_taken_in_order_and_again_from_its_start() -> None:
    assert plan((4, 2), 2, {2, 4}) == Plan(2, 4, (2, 4))


@pytest.mark.parametrize("pin", [(), (1, 9)])
def test_list_with_a_cpu_that_is_not_allowed_is_refused(pin: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="allowed CPUs are"):
        plan(pin, 1, {0, 1})
