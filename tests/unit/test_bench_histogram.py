"""Latencies: nothing is lost between recording and percentile."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certeus_bench import histogram
from certeus_bench.histogram import HIGHEST_NS, HistogramError

TIMES_NS = st.integers(min_value=0, max_value=HIGHEST_NS)


def of(*times_ns: int) -> str:
    made = histogram.empty()
    for time_ns in times_ns:
        histogram.record(made, time_ns)
    return histogram.encode(made)


def test_percentiles_below_2048_ns_are_exact() -> None:
    latency = histogram.latency(histogram.decode(of(*range(1, 1001))))
    assert latency is not None
    assert (latency.count, latency.min_ns, latency.max_ns) == (1000, 1, 1000)
    assert (latency.p50_ns, latency.p90_ns, latency.p99_ns, latency.p999_ns) == (500, 900, 990, 999)
    assert latency.mean_ns == 500.5


@given(st.lists(TIMES_NS, min_size=1, max_size=20))
def test_text_keeps_every_time_to_three_digits(times_ns: list[int]) -> None:
    back = histogram.decode(of(*times_ns))
    read = [time_ns for time_ns, count in histogram.steps(back) for _ in range(count)]
    assert len(read) == len(times_ns) == back.total_count
    for written, told in zip(sorted(times_ns), read, strict=True):
        assert written <= told <= written * 1.001 + 1


@settings(max_examples=10)
@given(st.lists(TIMES_NS, min_size=1, max_size=20))
def test_mean_is_that_of_the_library(times_ns: list[int]) -> None:
    made = histogram.decode(of(*times_ns))
    latency = histogram.latency(made)
    assert latency is not None
    assert latency.mean_ns == pytest.approx(made.get_mean_value(), rel=1e-12)


def test_histogram_without_times_has_no_latency() -> None:
    assert histogram.latency(histogram.empty()) is None


@pytest.mark.parametrize("time_ns", [-1, HIGHEST_NS + 1])
def test_time_that_does_not_fit_is_refused(time_ns: int) -> None:
    made = histogram.empty()
    with pytest.raises(HistogramError, match=str(time_ns)):
        histogram.record(made, time_ns)
    with pytest.raises(HistogramError, match=str(time_ns)):
        histogram.record_corrected(made, time_ns, 10)
    assert made.total_count == 0


def test_time_that_blocked_the_line_counts_for_those_behind_it() -> None:
    corrected = histogram.empty()
    histogram.record_corrected(corrected, 1000, 300)
    assert histogram.steps(corrected) == [(100, 1), (400, 1), (700, 1), (1000, 1)]


def test_time_shorter_than_the_interval_is_counted_once() -> None:
    corrected = histogram.empty()
    histogram.record_corrected(corrected, 299, 300)
    assert histogram.steps(corrected) == [(299, 1)]


def test_merged_histograms_hold_all_times_and_leave_their_parts() -> None:
    parts = [histogram.decode(of(1, 2)), histogram.decode(of(2, 2_000_000))]
    whole = histogram.merged(parts)
    assert histogram.steps(whole) == [(1, 1), (2, 2), (2_000_895, 1)]
    assert [part.total_count for part in parts] == [2, 2]
    assert histogram.merged([]).total_count == 0


@pytest.mark.parametrize("text", ["", "HISTFAAAA", "not base64!", "AAAAAAAAAAAA", "é"])
def test_text_that_is_no_histogram_is_told(text: str) -> None:
    with pytest.raises(HistogramError, match="cannot read histogram"):
        histogram.decode(text)


def test_cut_or_damaged_text_is_told_or_differs() -> None:
    text = of(*range(1000, 2000, 7))
    with pytest.raises(HistogramError):
        histogram.decode(text[:-8])
    with pytest.raises(HistogramError):
        histogram.decode("B" + text[1:])
