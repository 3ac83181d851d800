"""Latencies as HDR histograms: whole, so that any percentile can be taken later, by anybody.

Counting is the library's (`hdrhistogram`); here is only what certeus measures with: 1 ns to 1 h and
three significant digits, so that a time that is read is at most 0.1 % above the one recorded, and
exact below 2048 ns. Programs in other languages write the same base64 text (V2, compressed).
"""

import zlib
from collections.abc import Iterable, Iterator

from hdrh.codec import HdrCookieException, HdrLengthException
from hdrh.histogram import HdrHistogram

from certeus_bench.results import Latency

LOWEST_NS = 1
HIGHEST_NS = 3_600_000_000_000
SIGNIFICANT_DIGITS = 3
RESOLUTION = 10.0**-SIGNIFICANT_DIGITS
"""Two values that differ by less than this share may be the same one."""

P50, P90, P99, P999 = 50.0, 90.0, 99.0, 99.9


class HistogramError(ValueError):
    """What was given is no histogram, or does not fit into one."""


def empty() -> HdrHistogram:
    """A histogram for times of 1 ns to 1 h."""
    return HdrHistogram(LOWEST_NS, HIGHEST_NS, SIGNIFICANT_DIGITS)


def record(histogram: HdrHistogram, time_ns: int, count: int = 1) -> None:
    """Count one time; `HistogramError` if it is negative or longer than an hour."""
    _check(time_ns)
    histogram.record_value(time_ns, count)


def record_corrected(histogram: HdrHistogram, time_ns: int, interval_ns: int) -> None:
    """Count one time, and those that were not taken because this one blocked the line.

    Who waits for each answer before asking again takes one sample where an open line would have
    taken several: a time above ``interval_ns`` also counts as that time less one interval, less two
    intervals, and so on.

    Source: Gil Tene, "How NOT to Measure Latency"; HdrHistogram, recordValueWithExpectedInterval.
    """
    _check(time_ns)
    assert interval_ns > 0, "without an interval there is nothing to correct by"
    histogram.record_corrected_value(time_ns, interval_ns)


def encode(histogram: HdrHistogram) -> str:
    """The text that a `Measurement` carries."""
    return histogram.encode().decode("ascii")


def decode(text: str) -> HdrHistogram:
    """The histogram of a `Measurement`; `HistogramError` if the text holds none."""
    try:
        return HdrHistogram.decode(text)
    except (
        HdrCookieException, HdrLengthException, zlib.error, ValueError, TypeError, IndexError,
        RuntimeError, OverflowError, MemoryError,
    ) as error:  # fmt: skip
        cause = str(error) or type(error).__name__
        raise HistogramError(f"cannot read histogram: {cause}") from error


def merged(histograms: Iterable[HdrHistogram]) -> HdrHistogram:
    """All times of all histograms in a new one; those given stay as they are."""
    whole = empty()
    for histogram in histograms:
        whole.add(histogram)
    return whole


def latency(histogram: HdrHistogram) -> Latency | None:
    """The percentiles that are reported; None if nothing was recorded."""
    if not histogram.total_count:
        return None
    at = histogram.get_percentile_to_value_dict([P50, P90, P99, P999])
    # A time that was counted lies anywhere in its bucket: in the middle, on average. (The library's
    # own mean is the same number, but looks at each bucket ten times.)
    total_ns = sum((low + high + 1) // 2 * count for low, high, count in _buckets(histogram))
    return Latency(
        count=histogram.total_count,
        mean_ns=total_ns / histogram.total_count,
        min_ns=histogram.get_min_value(),
        p50_ns=at[P50],
        p90_ns=at[P90],
        p99_ns=at[P99],
        p999_ns=at[P999],
        max_ns=histogram.get_max_value(),
    )


def steps(histogram: HdrHistogram) -> list[tuple[int, int]]:
    """Every time that was recorded, in ns and ascending, with how often."""
    return [(high, count) for _, high, count in _buckets(histogram)]


def _buckets(histogram: HdrHistogram) -> Iterator[tuple[int, int, int]]:
    """Lowest and highest time that a bucket stands for, and its count, where there is one."""
    for index, count in enumerate(histogram.counts):
        if count:
            low = histogram.get_value_from_index(index)
            yield low, histogram.get_highest_equivalent_value(low), count


def _check(time_ns: int) -> None:
    if not 0 <= time_ns <= HIGHEST_NS:
        raise HistogramError(f"cannot record latency: {time_ns} ns is not within 0 ns and 1 h")
