"""Rates and quantiles of `certeus top`: what two samples say together."""

import msgspec
import pytest

from certeusd.cli.top_rates import quantiles, rate, view
from certeusd.control import types
from support.top_world import ACKS, process, producer, sample, status


@pytest.mark.parametrize(
    ("before", "after", "seconds", "expected"),
    [
        (None, 5, 1.0, None),
        (5, 5, None, None),
        (5, 15, 2.0, 5.0),
        (5, 5, 1.0, 0.0),
        (500, 20, 2.0, 10.0),
        (5, 15, 0.0, None),
    ],
)
def test_a_rate_is_the_growth_of_a_counter(
    before: int | None, after: int, seconds: float | None, expected: float | None
) -> None:
    assert rate(before, after, seconds) == expected


def test_quantiles_are_those_of_the_interval() -> None:
    slow, fast = [0] * 30 + [1000], [0] * 11 + [10]
    later = [fast_count + slow_count for fast_count, slow_count in
             zip([*fast, *[0] * 19], slow, strict=True)]  # fmt: skip
    p50, p99 = quantiles(slow, later)
    assert p50 == pytest.approx(1.536e-6)
    assert p99 is not None
    assert p99 < 2.1e-6
    assert quantiles(None, later) == (None, None), "nothing is known of an interval"
    assert quantiles(later, later) == (None, None), "nothing was counted in it"


def busy(seconds: float, count: int) -> types.Status:
    worker = process(
        "worker", cpu=1, affinity="1", rejected={"too-large": count // 10},
        histograms={"ack_ns": ACKS if count else []},
        counters={"events_total": count, "bytes_total": 100 * count, "sessions": 2,
                  "forwarded_total": count - count // 10, "rejected_total": count // 10,
                  "forward_full_total": count // 100},
    )  # fmt: skip
    log = process("log", counters={"records_total": count, "rejected_total": count // 5})
    flush = process("flush", counters={"rows_total": count // 2, "bytes_total": 50 * count},
                    histograms={"batch_ns": [0] * 20 + [count]})  # fmt: skip
    return status(
        uptime_seconds=10.0 + seconds, workers=[worker], processes=[log, flush],
        durable_seq=count, flushed_seq=count // 2, lag_events=count - count // 2,
    )  # fmt: skip


def test_every_stage_has_its_own_numbers() -> None:
    seen = view(sample(0, busy(0, 0)), sample(2, busy(2, 1000)))
    ingest, validate, commit, deliver = seen.stages
    assert (ingest.events_per_second, ingest.bytes_per_second) == (500.0, 50_000.0)
    assert ingest.p99_seconds is not None
    assert 0.0005 < ingest.p99_seconds < 0.00105
    assert (validate.events_per_second, validate.rejected_per_second) == (450.0, 50.0)
    assert (commit.events_per_second, commit.rejected_per_second) == (500.0, 50.0), "its own"
    assert (deliver.events_per_second, deliver.bytes_per_second) == (250.0, 25_000.0)
    assert seen.interval_seconds == 2.0


def test_a_worker_tells_load_back_pressure_and_pin() -> None:
    rings = (producer(ring_used_bytes=1 << 16), producer("b", 1))
    seen = view(sample(0, busy(0, 0)), sample(2, busy(2, 1000), rings))
    (worker,) = seen.workers
    assert (worker.events_per_second, worker.rejected_per_second) == (500.0, 50.0)
    assert (worker.sessions, worker.rejected) == (2, {"too-large": 100})
    assert worker.forward_full_per_second == 5.0
    assert worker.ring_fill == 0.5
    assert worker.pinned is True
    (worker,) = view(None, sample(0, status(workers=[process("worker", cpu=1)]))).workers
    assert (worker.pinned, worker.affinity) == (False, "0-1"), "somebody has moved it"
    (worker,) = view(None, sample(0)).workers
    assert worker.pinned is None, "it was never pinned"


def test_a_worker_that_comes_or_goes_does_not_move_the_rates_of_the_others() -> None:
    one, two = busy(0, 0), busy(2, 1000)
    more = process("worker", index=1, counters={"events_total": 10**9, "bytes_total": 10**9})
    came = msgspec.structs.replace(two, workers=[*two.workers, more])
    went = msgspec.structs.replace(one, workers=[*one.workers, more])
    calm = view(sample(0, one), sample(2, two)).stages
    assert view(sample(0, one), sample(2, came)).stages == calm
    assert view(sample(0, went), sample(2, two)).stages == calm


@pytest.mark.parametrize(
    ("changes", "unanswered", "state"),
    [
        ({}, (), "ready"),
        ({}, ("worker-0",), "no-answer"),
        ({"ready": False}, ("worker-0",), "starting"),
        ({"ready": False, "pid": None}, ("worker-0",), "down"),
        ({"ready": False, "pid": None, "crash_loop": True}, (), "crash-loop"),
    ],
)
def test_a_worker_that_is_not_well_says_so(
    changes: dict[str, object], unanswered: tuple[str, ...], state: str
) -> None:
    now = status(workers=[process("worker", **changes)])
    assert view(None, sample(0, now, unanswered=unanswered)).workers[0].state == state


def test_a_producer_is_followed_over_samples() -> None:
    before = producer(events_total=100, rejected={"too-large": 1}, ack_ns_buckets=[0, 5])
    after = producer(events_total=300, rejected={"too-large": 1, "too-deep": 4},
                     ack_ns_buckets=[0, 5, 0, 20], ring_used_bytes=1 << 15)  # fmt: skip
    (row,) = view(sample(0, None, (before,)), sample(2, None, (after,))).producers
    assert (row.events_per_second, row.rejected_per_second) == (100.0, 2.0)
    assert row.ack_p50_seconds == pytest.approx(6e-9), "of the new ones alone"
    assert (row.ring_fill, row.rejected) == (0.5, {"too-large": 1, "too-deep": 4})


def test_who_came_in_between_began_at_nothing() -> None:
    new = producer(events_total=50, ack_ns_buckets=[0, 50], since="2026-01-01T00:00:01.000Z")
    (row,) = view(sample(0, None, (producer(events_total=10),)), sample(2, None, (new,))).producers
    assert row.events_per_second == 25.0, "the same number, in another life of its worker"
    assert row.ack_p50_seconds is not None
    silent = sample(0, None, (), unanswered=("worker-0",))
    (row,) = view(silent, sample(2, None, (new,))).producers
    assert (row.events_per_second, row.ack_p50_seconds) == (None, None), "nobody knows since when"


def test_without_a_sample_before_nothing_is_known_of_an_interval() -> None:
    seen = view(None, sample(0, busy(0, 1000), (producer(events_total=7),)))
    assert seen.interval_seconds is None
    assert {one.events_per_second for one in seen.stages} == {None}
    assert seen.workers[0].ack_p99_seconds is None
    assert seen.producers[0].events_per_second is None


def test_another_daemon_begins_anew() -> None:
    again = sample(2, status(pid=2, uptime_seconds=11.0))
    assert view(sample(0, busy(0, 1000)), again).interval_seconds is None
    younger = sample(2, status(uptime_seconds=1.0))
    assert view(sample(0, busy(0, 1000)), younger).interval_seconds is None


def test_postgres_has_the_state_of_its_delivery() -> None:
    seen = view(sample(0, busy(0, 0)), sample(2, busy(2, 1000), lag_bytes=1 << 20))
    assert seen.followers is not None
    (row,) = seen.followers
    assert (row.state, row.events_per_second, row.lag_events) == ("connected", 250.0, 500)
    assert (row.lag_bytes, row.bytes_per_second) == (1 << 20, 25_000.0)
    assert row.batch_p50_seconds is not None
    breaker = types.Breaker("open", "", 3, "away", None)
    away = types.Postgres("external", "away", "", None, connected=False, breaker=breaker)
    for now, state in (
        (status(postgres=away), "open: away"),
        (status(postgres=types.Postgres("external", "away", "", None, connected=False)), "away"),
        (status(reasons=[types.Reason("flush-paused", "", "", "")]), "paused"),
    ):
        rows = view(None, sample(0, now)).followers
        assert rows is not None
        assert rows[0].state == state
