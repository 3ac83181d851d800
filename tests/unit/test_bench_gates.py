"""Bars: what reaches them, what misses them, and what cannot say."""

import pytest

from certeus_bench.gates import BARS
from certeus_bench.results import Gate, Result
from support.bench_results import ambitious, fake, latency, rate, result, run


def without(name: str, system: str = "certeus") -> list[Result]:
    return [one for one in ambitious() if not (one.name == name and system in one.system)]


def gate(results: list[Result], metric: str, absent: dict[str, str] | None = None) -> Gate:
    """The gate whose metric ends with the words, or else contains them."""
    gates = run(*results, absent=absent).gates
    ends = [one for one in gates if one.metric.endswith(metric)]
    (found,) = ends or [one for one in gates if metric in one.metric]
    return found


def test_run_that_reaches_every_bar_has_the_full_score() -> None:
    whole = run(*ambitious())
    assert [one for one in whole.gates if not one.passed] == []
    assert len(whole.gates) == len(BARS)
    assert whole.score == 1.0


@pytest.mark.parametrize(
    ("replacement", "metric", "value"),
    [
        (result("ring/one-way", latency(251, 400)), "ping-pong", 2.51),
        (result("ring/one-way", latency(300, 400)), "iceoryx2", 1.0),
        (result("ring/one-way", latency(250, 400)), "Aeron", 1.0),
        (result("ring/throughput", rate(19_999_999)), "from Rust", 19_999_999),
        (result("ring/throughput-python", rate(4_999_999)), "append_many of bytes", 4_999_999),
        (result("ring/throughput-python", rate(4_999_999)), "faster-fifo", 9.999998),
        (result("ring/throughput-dict", rate(999_999)), "of a dict", 999_999),
        (result("durable/ack", latency(1_300_000, 1_400_000)), "p50 of an ack", 1.625),
        (result("durable/ack", latency(1_000_000, 4_000_000)), "p99 of an ack", 2.667),
        (result("durable/throughput", rate(999_999)), "durable: events/s", 999_999),
        (result("durable/throughput", rate(99_999)), "Redis", 4.99995),
        (result("durable/producers-8", rate(800_000)), "lost from 1 to 64", 0.2),
        (result("durable/bytes-1024", rate(400_000)), "next smaller size", 0.8),
        (result("postgres/row-latency", latency(31_000_000, 60_000_000)), "p50 from", 31.0),
        (result("postgres/row-latency", latency(20_000_000, 101_000_000)), "p99 from", 101.0),
        (result("inproc/memory", rate(0, facts={"pss_bytes": 2.0**28 + 2**20})), "PSS", 257.0),
        (result("inproc/cpu", rate(1_000_000, cpu_seconds=16.0)), "at saturation", 1.6),
        (result("inproc/idle", rate(0, cpu_seconds=0.2)), "idle", 0.02),
    ],
)
def test_each_bar_can_be_missed(replacement: Result, metric: str, value: float) -> None:
    found = gate([*without(replacement.name, replacement.system), replacement], metric)
    assert found.value == pytest.approx(value, rel=0.01)
    assert not found.passed


def test_series_with_a_dip_in_the_middle_counts_it_and_a_rise_is_no_loss() -> None:
    rising = [result(f"durable/producers-{n}", rate(n * 100_000)) for n in (1, 2, 64)]
    ours = [one for one in ambitious() if not one.name.startswith("durable/producers-")]
    found = gate([*ours, *rising], "lost from")
    assert (found.value, found.passed) == (0.0, True)


@pytest.mark.parametrize("postgres", [15, 18])
def test_copy_is_compared_with_the_same_server_only(postgres: int) -> None:
    slow = result("postgres/throughput", rate(200_000), postgres=postgres)
    rest = [
        one
        for one in without("postgres/throughput")
        if one.settings.get("postgres") != postgres or one.name == "floor/copy"
    ]
    found = gate([*rest, slow], "bare COPY")
    assert found.value == pytest.approx(200 / (300 if postgres == 15 else 450))
    alone = [one for one in ambitious() if one.settings.get("postgres", 18) == 18]
    assert gate(alone, "bare COPY").passed
    assert (
        gate(alone, "Debian").told
        == "postgres/throughput of certeus (postgres 15) was not measured"
    )


def test_missing_result_fails_its_bar_and_says_so() -> None:
    found = gate(without("durable/ack"), "p50 of an ack")
    assert (found.value, found.passed) == (None, False)
    assert found.told == "durable/ack of certeus was not measured"


def test_absent_result_fails_its_bar_with_the_reason() -> None:
    gone = {"ring/one-way of iceoryx2 0.8.0": "no Rust compiler; install cargo"}
    found = gate(without("ring/one-way", "iceoryx2"), "iceoryx2", gone)
    assert not found.passed
    assert found.told == "ring/one-way of iceoryx2 is absent: no Rust compiler; install cargo"


def test_artifact_fails_its_bar_with_its_reasons() -> None:
    broken = result("durable/throughput", rate(2_000_000, read_sum=1))
    found = gate([*without("durable/throughput"), broken], "durable: events/s")
    assert not found.passed
    assert "durable/throughput of certeus is an artifact: payloads were lost" in found.told


def test_worst_of_several_results_counts() -> None:
    slower = result("ring/throughput", rate(21_000_000), producer="other")
    assert gate([*ambitious(), slower], "from Rust").value == 21_000_000


def test_peers_that_were_not_meant_are_left_out() -> None:
    own = [one for one in ambitious() if one.system in ("certeus", "floor")]
    metrics = [one.metric for one in run(*own).gates]
    assert len(metrics) == len(BARS) - 4
    assert not any("iceoryx2" in metric or "Redis" in metric for metric in metrics)


def test_groups_that_were_not_meant_are_left_out() -> None:
    floors = [one for one in ambitious() if one.system == "floor"]
    assert run(*floors).gates == []
    assert run(*floors).score is None
    ring = [one for one in ambitious() if one.name.startswith("ring/")]
    assert {one.metric.partition(":")[0] for one in run(*ring).gates} == {"ring"}


def test_group_of_which_everything_is_absent_is_still_held_to_its_bars() -> None:
    found = run(absent={"inproc/idle of certeus": "cannot start certeusd"}).gates
    assert len(found) == 3
    assert not any(one.passed for one in found)


def test_unsafe_peers_are_never_compared() -> None:
    unsafe = result("ring/one-way", latency(1_000, 2_000), "iceoryx2 0.8.0", unsafe=True)
    found = gate([*without("ring/one-way", "iceoryx2"), unsafe], "iceoryx2")
    assert not found.passed


def test_peer_with_another_payload_is_not_compared() -> None:
    large = result("ring/one-way", latency(1_000, 2_000, bytes_each=1024), "iceoryx2 0.8.0")
    found = gate([*without("ring/one-way", "iceoryx2"), large], "iceoryx2")
    assert found.told == "ring/one-way of certeus and ring/one-way of iceoryx2 share no payload"


def test_result_without_the_figure_fails_its_bar() -> None:
    blind = result("inproc/memory", fake(operations=0, histogram=None, intervals=[]))
    found = gate([*without("inproc/memory"), blind], "memory")
    assert (found.passed, found.told) == (False, "inproc/memory of certeus has no PSS")
