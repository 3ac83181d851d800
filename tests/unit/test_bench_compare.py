"""Comparing runs: regressions are told, noise is not, nor is a machine that got slower."""

import pytest

from certeus_bench.compare import Comparison, Row, Side, Verdict, compare
from certeus_bench.results import Measurement, Result, Run
from support.bench_results import fake, latency, rate, result, run

SAME, FASTER, SLOWER = Verdict.SAME, Verdict.FASTER, Verdict.SLOWER
INCOMPARABLE = Verdict.NOT_COMPARABLE


def of(base: Run | list[Run], new: Run | list[Run]) -> Comparison:
    sides = [one if isinstance(one, list) else [one] for one in (base, new)]
    return compare(*(Side(side) for side in sides))


def row(found: Comparison, name: str, figure: str) -> Row:
    (one,) = [
        row
        for row in found.rows
        if row.key[0] == name and row.figure is not None and row.figure.name == figure
    ]
    return one


def pace(per_second: int) -> Measurement:
    """A throughput with a series that jitters by a twentieth."""
    half = per_second // 20
    series = [per_second - half, per_second + half] * 10
    return fake(
        operations=per_second * 20, seconds=20.0, intervals=series, histogram=None, timer_ns=0,
        concurrency=0,
    )  # fmt: skip


def ack(p50_ns: int) -> Result:
    return result("durable/ack", latency(p50_ns, 3 * p50_ns))


def bare(p50_ns: int) -> Result:
    return result("floor/fdatasync-4k", latency(p50_ns, 3 * p50_ns), "floor")


@pytest.mark.parametrize(
    ("new_ns", "runs", "verdict"),
    [
        (1_000_000, 1, SAME), (1_090_000, 1, SAME), (1_110_000, 1, SLOWER), (890_000, 1, FASTER),
        (1_000_000, 3, SAME), (1_040_000, 3, SAME), (1_060_000, 3, SLOWER), (940_000, 3, FASTER),
    ],
)  # fmt: skip
def test_several_runs_tell_five_percent_and_single_ones_ten(
    new_ns: int, runs: int, verdict: Verdict
) -> None:
    found = of([run(ack(1_000_000))] * runs, [run(ack(new_ns))] * runs)
    assert [row(found, "durable/ack", p).verdict for p in ("p50", "p99")] == [verdict] * 2
    assert bool(found.slower) == (verdict is SLOWER)


@pytest.mark.parametrize(("new", "verdict"), [(100_000, SAME), (80_000, SLOWER), (125_000, FASTER)])
def test_lower_rate_is_slower(new: int, verdict: Verdict) -> None:
    found = of(
        run(result("durable/throughput", pace(100_000))),
        run(result("durable/throughput", pace(new))),
    )
    one = row(found, "durable/throughput", "rate")
    assert one.verdict is verdict
    assert one.ratio == pytest.approx(100_000 / new)


def test_change_that_chance_makes_too_is_none() -> None:
    wild = [50, 2_000, 300, 1_200, 900, 1_500, 100, 1_700, 250, 1_900, 1_000, 1_000]
    before = fake(operations=12_000, seconds=12.0, intervals=wild, histogram=None, concurrency=0)
    after = fake(operations=10_800, seconds=12.0, intervals=[int(one * 0.9) for one in wild],
                 histogram=None, concurrency=0)  # fmt: skip
    found = of(run(result("durable/throughput", before)), run(result("durable/throughput", after)))
    one = row(found, "durable/throughput", "rate")
    assert (one.verdict, one.why) == (SAME, "within what chance does")


def test_rate_of_an_open_loop_is_not_compared() -> None:
    found = of(run(ack(1_000_000)), run(ack(1_000_000)))
    assert {one.figure.name for one in found.rows if one.figure} == {"p50", "p99"}


def test_slower_machine_is_no_slower_program() -> None:
    found = of(run(ack(1_000_000), bare(800_000)), run(ack(1_300_000), bare(1_040_000)))
    one = row(found, "durable/ack", "p50")
    assert one.floor_ratio == pytest.approx(1.3, rel=0.001)
    assert (one.verdict, one.why) == (SAME, "the machine is slower, by its floor")
    assert row(found, "floor/fdatasync-4k", "p50").verdict is SLOWER
    assert not found.slower


def test_program_that_is_slower_than_its_slower_machine_is_told() -> None:
    found = of(run(ack(1_000_000), bare(800_000)), run(ack(2_000_000), bare(1_040_000)))
    assert row(found, "durable/ack", "p50").verdict is SLOWER


def test_floor_that_only_jitters_excuses_nothing() -> None:
    found = of(run(ack(1_000_000), bare(800_000)), run(ack(1_120_000), bare(832_000)))
    assert row(found, "durable/ack", "p50").verdict is SLOWER


def test_floor_of_the_same_server_counts() -> None:
    def rows(version: int, per_second: int, copied: int) -> list[Result]:
        return [
            result("postgres/throughput", pace(per_second), postgres=version),
            result("floor/copy", pace(copied), "floor", postgres=version),
        ]

    before = run(*rows(15, 200_000, 300_000), *rows(18, 300_000, 400_000))
    after = run(*rows(15, 100_000, 150_000), *rows(18, 150_000, 400_000))
    verdicts = {
        one.key[2]: one.verdict for one in of(before, after).rows if "throughput" in one.key[0]
    }
    assert verdicts == {"postgres 15": SAME, "postgres 18": SLOWER}


def test_peer_that_got_slower_is_told_but_is_no_regression() -> None:
    before, after = (
        run(result("ring/one-way", latency(time_ns, 900), "Aeron 1.50")) for time_ns in (200, 300)
    )
    found = of(before, after)
    assert row(found, "ring/one-way", "p50").verdict is SLOWER
    assert not found.slower


def test_several_runs_are_judged_by_what_differs_among_them() -> None:
    steady = [run(ack(time_ns)) for time_ns in (1_000_000, 1_010_000, 1_005_000)]
    slower = [run(ack(time_ns)) for time_ns in (1_200_000, 1_210_000, 1_190_000)]
    wild = [run(ack(time_ns)) for time_ns in (900_000, 1_200_000, 1_400_000)]
    assert row(of(steady, slower), "durable/ack", "p50").verdict is SLOWER
    assert row(of(steady, wild), "durable/ack", "p50").verdict is SAME
    assert row(of(steady, steady), "durable/ack", "p50").ratio == pytest.approx(1.0)


def test_two_single_runs_are_told_what_they_cannot_say() -> None:
    one = run(ack(1_000_000))
    assert any("one run a side" in note for note in of(one, one).notes)
    assert not any("one run a side" in note for note in of([one, one], one).notes)


def test_figure_without_spread_needs_several_runs() -> None:
    before, after = (
        run(result("inproc/cpu", rate(100_000, cpu_seconds=cpu))) for cpu in (1.0, 1.5)
    )
    one = row(of(before, after), "inproc/cpu", "CPU an operation")
    assert (one.verdict, one.why.split(":")[0]) == (
        INCOMPARABLE,
        "one run a side says nothing of its noise",
    )
    assert row(of([before] * 3, [after] * 3), "inproc/cpu", "CPU an operation").verdict is SLOWER


@pytest.mark.parametrize(
    ("new", "why"),
    [
        (run(ack(1_000_000), cpu="Another CPU"), "another machine: cpu is Faked CPU and Another"),
        (run(ack(1_000_000), kernel="7.0"), "another machine: kernel is not told and 7.0"),
        (
            run(result("durable/ack", latency(1_000_000, 2_000_000), bytes=100)),
            "settings are none and bytes 100",
        ),
        (run(result("durable/ack", latency(1_000_000, 2_000_000, bytes_each=100))), "bytes_each"),
        (
            run(result("durable/ack", latency(1_000_000, 2_000_000, seconds=0.5))),
            "only artifacts on the new side: measured for 0.5 s",
        ),
    ],
)
def test_what_cannot_be_compared_says_why(new: Run, why: str) -> None:
    found = of(run(ack(1_000_000)), new)
    (one,) = found.rows
    assert (one.verdict, one.figure) == (INCOMPARABLE, None)
    assert why in one.why
    assert not found.slower


def test_artifact_among_sound_runs_is_left_out() -> None:
    broken = run(result("durable/ack", latency(9_000_000, 9_000_000, seconds=0.5)))
    good = [run(ack(1_000_000)), run(ack(1_010_000))]
    assert row(of(good, [*good, broken]), "durable/ack", "p50").verdict is SAME


def test_what_one_side_lacks_is_noted() -> None:
    found = of(run(ack(1_000_000)), run(bare(800_000)))
    assert found.rows == []
    assert "only on the base side: durable/ack of certeus" in found.notes
    assert "only on the new side: floor/fdatasync-4k of floor" in found.notes
