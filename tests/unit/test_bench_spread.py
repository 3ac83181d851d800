"""How far figures may be off: as wide as chance, no wider, and always the same."""

import msgspec
import numpy as np
import pytest

from certeus_bench import spread
from certeus_bench.histogram import P50, P99
from certeus_bench.results import Loop
from support.bench_results import fake, times


def normal(count: int, seed: int) -> list[int]:
    """A series around 1000 with a standard deviation of 50."""
    drawn = np.random.default_rng(seed).normal(1000, 50, count)
    return [int(value) for value in drawn]


def test_percentile_lies_within_its_interval_nearly_always() -> None:
    hits = 0
    for seed in range(200):
        drawn = np.random.default_rng(seed).integers(1, 1001, 1000)
        steps = [(int(value), 1) for value in drawn]
        low, high = spread.of_percentile(fake(histogram=times(*steps)), P50) or (0, 0)
        assert low < high
        hits += low <= 500 <= high
    assert hits >= 195


def test_interval_of_a_high_percentile_is_wider_and_stays_among_the_times() -> None:
    measured = fake(histogram=times(*[(value, 1) for value in range(1, 1001)]))
    assert spread.of_percentile(measured, P50) == (459, 542)
    assert spread.of_percentile(measured, P99) == (981, 1000)
    assert spread.of_percentile(fake(histogram=times((5, 3))), P99) == (5, 5)


def test_times_that_come_in_clumps_say_less_of_a_percentile() -> None:
    steps = times(*[(value, 1) for value in range(1, 1001)])
    even = fake(histogram=steps, intervals=[50] * 21, operations=1_000)
    clumped = fake(histogram=steps, intervals=[90] * 10 + [10] * 11, operations=1_000)
    narrow, wide = spread.of_percentile(even, P50), spread.of_percentile(clumped, P50)
    assert narrow == (459, 542)
    assert wide is not None
    assert wide.high - wide.low > 3 * (542 - 459)
    open_loop = msgspec.structs.replace(clumped, loop=Loop.OPEN)
    assert spread.of_percentile(open_loop, P50) == narrow


def test_without_times_or_intervals_nothing_is_known() -> None:
    assert spread.of_percentile(fake(histogram=None), P50) is None
    assert spread.of_percentile(fake(histogram=times()), P50) is None
    assert spread.of_rate(fake(intervals=[5] * 10)) is None
    assert spread.of_rate(fake(intervals=[5] * 11, interval_seconds=0.0)) is None


def test_mean_rate_lies_within_its_interval_nearly_always() -> None:
    hits = 0
    for seed in range(100):
        series = normal(101, seed)
        low, high = spread.of_rate(fake(intervals=series, interval_seconds=0.1)) or (0, 0)
        assert high - low < 500
        hits += low <= 10_000 <= high
    assert hits >= 94


def test_rate_that_wanders_slowly_has_a_wider_interval_than_one_that_jitters() -> None:
    jitter = [900, 1100] * 50
    drift = [900] * 50 + [1100] * 50
    narrow = spread.of_rate(fake(intervals=[*jitter, 0]))
    wide = spread.of_rate(fake(intervals=[*drift, 0]))
    assert narrow is not None
    assert wide is not None
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_intervals_are_the_same_every_time() -> None:
    measured = fake(intervals=normal(50, 1))
    assert spread.of_rate(measured) == spread.of_rate(measured)


def test_ratio_of_several_runs_is_that_of_their_geometric_means() -> None:
    ratio, (low, high) = spread.of_ratio([100.0, 110.0], [200.0, 220.0])
    assert ratio == pytest.approx(2.0)
    assert low < 2.0 < high


def test_runs_that_vary_much_make_a_wide_interval_and_more_of_them_a_narrower_one() -> None:
    base, new = [100.0, 140.0], [120.0, 170.0]
    _, (low, high) = spread.of_ratio(base, new)
    assert low < 1 < high
    _, (nearer, _) = spread.of_ratio(base * 20, new * 20)
    assert low < 1 < nearer


def test_single_run_on_one_side_borrows_the_others_spread() -> None:
    _, (low, high) = spread.of_ratio([100.0, 101.0, 102.0, 103.0], [110.0])
    assert low < 110 / 101.5 < high
    assert low < 1 < high
    with pytest.raises(AssertionError):
        spread.of_ratio([100.0], [110.0])
