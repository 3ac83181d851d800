"""Measurements that no machine made, for the tests of what judges them."""

import msgspec

from certeus_bench import histogram
from certeus_bench.results import Measurement

Changes = dict[str, object]


def times(*steps: tuple[int, int]) -> str:
    """A histogram's text of (time in ns, how often)."""
    made = histogram.empty()
    for time_ns, count in steps:
        histogram.record(made, time_ns, count)
    return histogram.encode(made)


# 10,000 operations in 10 s, one after the other, about 1 ms each.
SOUND = Measurement(
    operations=10_000,
    seconds=10.0,
    warmup_seconds=3.0,
    bytes_each=64,
    concurrency=1,
    histogram=times((900_000, 9_000), (1_500_000, 900), (3_000_000, 100)),
    timer_ns=25,
    intervals=[1_000] * 10,
    interval_seconds=1.0,
    written_sum=2**64 - 1,
    read_sum=2**64 - 1,
)


def fake(**changes: object) -> Measurement:
    """A sound measurement, but for what is given."""
    return msgspec.structs.replace(SOUND, **changes)
