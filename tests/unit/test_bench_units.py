"""How figures look to people."""

import pytest

from certeus_bench import units


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"), (0.00001234, "1.23e-05"), (0.0123, "0.0123"), (0.5, "0.500"), (1, "1.00"),
        (2.499, "2.50"), (12.345, "12.3"), (99.96, "100"), (1234567, "1,234,567"), (-5, "-5.00"),
    ],
)  # fmt: skip
def test_number_has_three_digits(value: float, shown: str) -> None:
    assert units.number(value) == shown


@pytest.mark.parametrize(
    ("time_ns", "shown"),
    [
        (0, "0 ns"), (7, "7.00 ns"), (999, "999 ns"), (999.6, "1.00 µs"), (12_345, "12.3 µs"),
        (1_000_447, "1.00 ms"), (99_960_000, "100 ms"), (61e9, "61.0 s"), (7200e9, "7,200 s"),
    ],
)  # fmt: skip
def test_time_has_the_unit_that_fits(time_ns: float, shown: str) -> None:
    assert units.time(time_ns) == shown


def test_sizes_count_in_powers_of_two_and_axes_in_thousands() -> None:
    assert units.size(1536) == "1.50 KiB"
    assert units.size(3 * 2**40) == "3.00 TiB"
    assert units.rate(1_200_000) == "1,200,000/s"
    assert [units.short(value) for value in (0, 5, 1500, 2_000_000)] == ["0", "5", "1.5 k", "2 M"]
