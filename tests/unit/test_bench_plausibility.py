"""Faked measurements: each kind of accident is noticed, each for its own reason."""

import re

import pytest

from certeus_bench import plausibility
from certeus_bench.results import Label, Latency, Loop, Measurement, Scope
from support.bench_results import SOUND, Changes, fake, times


def reasons(measurement: Measurement, scope: Scope = Scope.RING) -> list[str]:
    label, found = plausibility.judge(measurement, scope)
    assert (label is Label.ARTIFACT) == bool(found)
    return found


@pytest.mark.parametrize("scope", Scope)
def test_sound_measurement_has_no_reasons(scope: Scope) -> None:
    assert reasons(SOUND, scope) == []


def test_throughput_without_times_is_sound() -> None:
    assert reasons(fake(histogram=None, timer_ns=0, concurrency=0)) == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"histogram": times((900_000, 9_999))}, "holds 9,999 times of 10,000 operations"),
        ({"histogram": times()}, "holds 0 times of 10,000 operations"),
        ({"histogram": "no histogram"}, "cannot read histogram"),
        ({"timer_ns": 900_095}, r"p50 \(900,095 ns\) is not above .* 900,095 ns"),
        ({"timer_ns": 0}, "resolution was not measured"),
        ({"histogram": times((2_000_000, 10_000))}, "Little's law: .* is 2 under way"),
        ({"histogram": times((10_000, 10_000))}, "Little's law: .* is 0.01 under way"),
        ({"seconds": 0.99, "interval_seconds": 0.099, "histogram": None}, "measured for 0.99 s"),
        ({"read_sum": 7}, "sum read 7"),
        ({"read_sum": None}, "only the writing side"),
        ({"written_sum": None}, "only the reading side"),
        ({"read_sum": None, "written_sum": None}, "neither side summed"),
        ({"intervals": [1_000] * 8 + [500, 499]}, "hold 8,999 of 10,000 operations"),
        ({"intervals": [2_000] * 5}, "intervals last 5 s of 10 s"),
        ({"interval_seconds": 0.0}, "length of an interval was not told"),
        ({"intervals": [1_200] * 4 + [0] * 1 + [1_050] * 5}, "for 1 s, 4 s after the start"),
        ({"intervals": [1_600] * 5 + [400] * 5}, "not steady: 1,600/s .* 400/s in the second"),
    ],
)
def test_each_accident_has_its_own_reason(changes: Changes, reason: str) -> None:
    (found,) = reasons(fake(**changes))
    assert re.search(reason, found)


def test_too_few_operations_are_told() -> None:
    few = fake(operations=999, histogram=times((9_000_000, 999)), intervals=[])
    assert reasons(few) == ["only 999 operations; at least 1,000 are needed"]


def test_percentile_below_a_lower_one_is_told() -> None:
    latency = Latency(
        count=9, mean_ns=5.0, min_ns=1, p50_ns=5, p90_ns=8, p99_ns=7, p999_ns=9, max_ns=9
    )
    assert plausibility.percentiles_rise(SOUND, latency) == "p90 (8 ns) is above p99 (7 ns)"


def test_all_reasons_are_told_at_once() -> None:
    found = reasons(fake(seconds=0.5, timer_ns=0, read_sum=1, intervals=[1]))
    assert len(found) == 5  # too short, no timer, Little's law, sums, intervals


def test_ring_without_payload_needs_no_sums() -> None:
    assert reasons(fake(bytes_each=0, written_sum=None, read_sum=None)) == []


@pytest.mark.parametrize("scope", [Scope.DURABLE, Scope.HTTP, Scope.POSTGRES, Scope.INPROC])
def test_past_a_system_call_sums_may_be_left_out_but_not_one_of_them(scope: Scope) -> None:
    assert reasons(fake(written_sum=None, read_sum=None), scope) == []
    assert reasons(fake(read_sum=None), scope) == ["only the writing side told its sum"]


def test_idle_system_may_do_nothing() -> None:
    idle = fake(operations=0, histogram=None, intervals=[], bytes_each=0)
    assert reasons(idle, Scope.INPROC) == []
    assert reasons(idle, Scope.DURABLE) == ["only 0 operations; at least 1,000 are needed"]


def test_open_loop_may_wait_in_line_but_not_since_before_it_began() -> None:
    def waiting(*steps: tuple[int, int]) -> Measurement:
        return fake(loop=Loop.OPEN, concurrency=0, histogram=times(*steps))

    assert reasons(waiting((5_000_000_000, 10_000))) == []
    assert reasons(waiting((1_000, 10_000))) == []
    (found,) = reasons(waiting((1_000, 9_999), (20_000_000_000, 1)))
    assert found == "an operation took 20 s, but warm-up and measuring 13 s"


def test_closed_loop_without_known_concurrency_is_not_held_to_littles_law() -> None:
    assert reasons(fake(concurrency=0, histogram=times((2_000_000, 10_000)))) == []


def test_slack_of_littles_law_allows_for_what_two_clocks_differ() -> None:
    assert reasons(fake(histogram=times((1_090_000, 10_000)))) == []


def test_last_interval_may_be_cut_or_empty() -> None:
    assert reasons(fake(intervals=[1_000] * 9 + [100])) == []
    assert reasons(fake(intervals=[1_000] * 10 + [0])) == []


def test_hiccup_and_rare_operations_are_no_standstill() -> None:
    hiccup = [100] * 50 + [0] * 4 + [100] * 46
    assert (
        reasons(fake(operations=9_600, histogram=None, interval_seconds=0.1, intervals=hiccup))
        == []
    )
    rare = [2, 0] * 500
    assert reasons(fake(operations=1_000, seconds=1_000.0, histogram=None, intervals=rare)) == []
