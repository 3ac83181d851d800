"""What a histogram of powers of two says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certeusd.histogram import grown, merged, quantile, trimmed

COUNTS = st.lists(st.integers(0, 1000), max_size=64)


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ([], 0.5, None),
        ([0, 0], 0.5, None),
        ([7], 0.99, 0.0),
        ([0, 4], 1.0, 2.0),
        ([0, 0, 0, 8], 0.0, 4.0),
        ([0, 0, 0, 8], 0.5, 6.0),
        ([0, 0, 0, 8], 1.0, 8.0),
        ([0, 99, 0, 1], 0.5, 1.0 + 50 / 99),
        ([0, 99, 0, 1], 0.99, 2.0),
        ([0, 98, 0, 2], 0.99, 6.0),
        ([0, 0, 0, 1, 0, 0], 1.0, 8.0),
    ],
)
def test_a_quantile_lies_within_its_bucket(
    counts: list[int], share: float, expected: float | None
) -> None:
    found = quantile(counts, share)
    assert found == (None if expected is None else pytest.approx(expected))


@given(st.lists(st.integers(1, 2**40), min_size=1, max_size=50), st.floats(0.01, 1.0))
def test_a_quantile_is_true_to_a_factor_of_two(values: list[int], share: float) -> None:
    counts = [0] * 64
    for value in values:
        counts[value.bit_length()] += 1
    at = max(0, -int(-share * len(values) // 1) - 1)
    exact = sorted(values)[at]
    found = quantile(counts, share)
    assert found is not None
    assert exact / 2 <= found <= exact * 2


@given(COUNTS, COUNTS)
def test_an_interval_is_the_difference_of_its_ends(before: list[int], more: list[int]) -> None:
    assert trimmed(grown(before, merged([before, more]))) == trimmed(more)


def test_counts_that_went_back_began_anew() -> None:
    assert grown([5, 9], [1, 2, 3]) == [1, 2, 3]


def test_empty_buckets_at_the_end_are_left_out() -> None:
    assert trimmed([0, 1, 0, 2, 0, 0]) == [0, 1, 0, 2]
    assert trimmed([0, 0]) == []
