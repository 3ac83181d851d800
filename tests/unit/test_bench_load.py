"""The open loop: when events are due, and that whoever stalls is charged for all of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest

import certeus
from certeus_bench import histogram
from certeus_bench.load.producer import BATCH_MAX, Offering, sums_of
from certeus_bench.load.profile import KEYS, SIZES, Profile, rows
from certeus_bench.load.schedule import (
    BURST_SECONDS,
    BURST_SHARE,
    CHUNK,
    Line,
    Plan,
    Ramp,
    Stairs,
    in_bursts,
    rates,
)
from certeus_bench.load.tally import BUCKETS, Tally, buckets_of, lowest_of
from certeus_bench.rows import ROWS

SECOND = 1_000_000_000
MS = 1_000_000
STEADY = Ramp(1000.0, 0.0, 10.0)


def line(plan: Plan = STEADY, worker: int = 0, workers: int = 1, *, bursts: bool = False) -> Line:
    return Line(plan, worker, workers, bursts=bursts)


def all_due(plan: Plan, workers: int = 1) -> list[int]:
    """Times of all events of all producers."""
    lines = [line(plan, worker, workers) for worker in range(workers)]
    return sorted(
        time_ns
        for one in lines
        for time_ns in one.times_ns(0, one.due(round(plan.seconds * 2e9))).tolist()
    )


# --- schedules -----------------------------------------------------------------------------------


def test_a_steady_plan_has_its_rate_and_nothing_at_its_end() -> None:
    times_ns = all_due(STEADY)
    assert len(times_ns) == 10_000
    assert {later - earlier for earlier, later in pairwise(times_ns)} == {MS}
    assert times_ns[-1] < 10 * SECOND


def test_a_ramp_grows_linearly_to_its_target() -> None:
    times = np.array(all_due(Ramp(1000.0, 4.0, 6.0))) / 1e9
    counts, _ = np.histogram(times, bins=6, range=(0.0, 6.0))
    assert counts.tolist() == [pytest.approx(n, abs=1) for n in (125, 375, 625, 875, 1000, 1000)]


def test_stairs_hold_each_rate_for_its_time() -> None:
    times = np.array(all_due(Stairs([100.0, 200.0, 400.0], 2.0))) / 1e9
    counts, _ = np.histogram(times, bins=3, range=(0.0, 6.0))
    assert counts.tolist() == [200, 400, 800]


def test_rates_grow_by_their_factor_up_to_the_last() -> None:
    assert rates(100.0, 2.0, 800.0) == [100.0, 200.0, 400.0, 800.0]
    assert rates(100.0, 2.0, 799.0) == [100.0, 200.0, 400.0]
    assert rates(100.0, 2.0, 100.0) == [100.0]


@pytest.mark.parametrize("workers", [2, 3, 16])
def test_producers_share_out_one_plan_and_lose_none_of_it(workers: int) -> None:
    plan = Ramp(1000.0, 1.0, 3.0)
    assert all_due(plan, workers) == all_due(plan)


def test_bursts_keep_every_event_and_the_mean_rate() -> None:
    due_s = np.arange(0.0, 5.0, 0.001)
    burst_s = in_bursts(due_s)
    assert (np.diff(burst_s) >= 0).all()
    assert (burst_s % BURST_SECONDS <= BURST_SECONDS * BURST_SHARE).all()
    assert (due_s // BURST_SECONDS == burst_s // BURST_SECONDS).all()


def test_a_line_forgets_only_what_nobody_asks_for() -> None:
    made = line(Ramp(100_000.0, 0.0, 1.0))
    whole = made.times_ns(0, made.due(SECOND)).copy()
    assert len(whole) == 100_000 > CHUNK
    made.forget(90_000)
    assert made.times_ns(90_000, 100_000).tolist() == whole[90_000:].tolist()
    assert made.due(SECOND) == 100_000
    assert made.is_whole(100_000)
    assert not made.is_whole(99_999)


def test_a_line_that_is_cut_ends_with_what_was_sent() -> None:
    made = line()
    assert made.due(SECOND) == 1001
    made.cut(500)
    assert made.due(5 * SECOND) == 500
    assert made.is_whole(500)


# --- counting ------------------------------------------------------------------------------------


def test_buckets_are_those_of_the_histogram_library() -> None:
    edges = [1 << power for power in range(42)]
    times = sorted({max(edge + step, 0) for edge in edges for step in (-1, 0, 1, edge // 3)})
    for bucket, time_ns in zip(buckets_of(np.array(times)).tolist(), times, strict=True):
        assert 0 <= bucket < BUCKETS
        ours, theirs = histogram.empty(), histogram.empty()
        histogram.record(ours, lowest_of(bucket))
        histogram.record(theirs, time_ns)
        assert list(ours.counts) == list(theirs.counts), time_ns


def test_the_longest_time_has_a_bucket() -> None:
    (bucket,) = buckets_of(np.array([histogram.HIGHEST_NS])).tolist()
    assert bucket < BUCKETS


def test_what_was_due_in_the_ramp_is_not_counted() -> None:
    made = line()
    tally = Tally(made, SECOND, SECOND // 2)
    assert made.due(2 * SECOND) == 2001
    tally.reach(900, SECOND)
    assert (tally.operations, tally.intervals) == (0, [])
    tally.reach(2001, 2 * SECOND + 300 * MS)
    assert tally.operations == 1001
    assert tally.intervals == [0, 0, 1001]
    assert tally.last_ns == 2 * SECOND + 300 * MS


# --- the loop ------------------------------------------------------------------------------------


@dataclass
class Clock:
    """Time that passes only when somebody says so."""

    now_ns: int = 0

    def __call__(self) -> int:
        return self.now_ns


@dataclass
class Sink:
    """A producer whose events are durable ``delay_ns`` after they were taken."""

    clock: Clock
    delay_ns: int = 0
    room: int = 1 << 30
    taken: list[object] = field(default_factory=list[object])
    times_ns: list[int] = field(default_factory=list[int])
    asleep_until_ns: int = 0

    def append_many(
        self, type: str, rows: list[bytes | certeus.Event], *, timeout: float | None = None
    ) -> int:
        assert timeout == 0.0, "nothing may wait in there"
        settled = self.statistics().settled
        fits = min(len(rows), self.room - (len(self.taken) - settled))
        self.taken += rows[:fits]
        self.times_ns += [self.clock.now_ns] * fits
        if fits < len(rows):
            full = certeus.RingFullError("full")
            setattr(full, "last_ticket", len(self.taken))  # noqa: B010 - as the library does
            raise full
        return len(self.taken)

    def wait_durable(self, ticket: int, timeout: float | None = None) -> None:
        raise TimeoutError

    def statistics(self) -> certeus.Statistics:
        now = self.clock.now_ns
        asleep = now < self.asleep_until_ns
        settled = 0 if asleep else sum(at + self.delay_ns <= now for at in self.times_ns)
        return certeus.Statistics(
            appended=len(self.taken), settled=settled, accepted=settled, escalated=0,
            duplicates=0, rejected=0, resent=0, reconnects=0, connected=True, ring_bytes=1,
            ring_used_bytes=0, last_loss="",
        )  # fmt: skip


Items = list[bytes | certeus.Event]
Rig = tuple[Clock, Sink, Offering, Tally]


def rig(
    plan: Plan = STEADY, items: Items | None = None, delay_ns: int = 0, room: int = 1 << 30
) -> Rig:
    clock = Clock()
    made = line(plan)
    tallies = (Tally(made, 0, SECOND), Tally(made, 0, SECOND))
    to = Sink(clock, delay_ns, room)
    return clock, to, Offering(to, made, items or [b"1", b"2", b"3"], tallies, clock), tallies[1]


def times_of(tally: Tally) -> list[tuple[int, int]]:
    return histogram.steps(histogram.decode(tally.histogram()))


def run_until(clock: Clock, offering: Offering, end_ns: int, tick_ns: int = MS) -> None:
    while clock.now_ns < end_ns and not offering.is_done():
        offering.turn()
        clock.now_ns += tick_ns


def test_a_stall_is_counted_by_every_event_that_was_due_in_it() -> None:
    """Somebody who asks one after the other would have seen one slow event instead of 1000."""
    clock, _, offering, durable = rig(Ramp(1000.0, 0.0, 3.0))
    run_until(clock, offering, SECOND)
    clock.now_ns = 2 * SECOND  # nobody ran for a second
    run_until(clock, offering, 4 * SECOND)
    assert offering.is_done()
    waited = times_of(durable)
    assert sum(count for _, count in waited) == 3000
    slow = {at: sum(n for time_ns, n in waited if time_ns >= at) for at in (1, 250 * MS, 750 * MS)}
    assert slow[1] == pytest.approx(1000, abs=3)
    assert slow[250 * MS] == pytest.approx(750, abs=3)
    assert slow[750 * MS] == pytest.approx(250, abs=3)


def test_a_sync_that_hangs_is_counted_the_same_way() -> None:
    clock, sink, offering, durable = rig(Ramp(1000.0, 0.0, 2.0))
    run_until(clock, offering, SECOND)
    sink.asleep_until_ns = 2 * SECOND
    run_until(clock, offering, 4 * SECOND)
    assert offering.is_done()
    slow = sum(count for time_ns, count in times_of(durable) if time_ns >= 500 * MS)
    assert slow == pytest.approx(500, abs=3)


def test_latency_ends_with_the_verdict_not_with_the_append() -> None:
    clock, _, offering, durable = rig(Ramp(1000.0, 0.0, 1.0), delay_ns=20 * MS)
    run_until(clock, offering, 2 * SECOND)
    assert offering.is_done()
    assert min(time_ns for time_ns, _ in times_of(durable)) >= 20 * MS


def test_a_full_ring_is_waited_for_and_its_time_told() -> None:
    clock, sink, offering, durable = rig(Ramp(1000.0, 0.0, 1.0), delay_ns=100 * MS, room=50)
    run_until(clock, offering, 10 * SECOND)
    assert offering.is_done()
    assert offering.sent == durable.position == 1000
    assert len(sink.taken) == 1000
    assert offering.ring_full_ns > 500 * MS
    assert durable.last_ns > SECOND


def test_rows_are_offered_in_order_again_and_again() -> None:
    items: Items = [b"1", b"2", b"3", b"4", b"5"]
    clock, sink, offering, _ = rig(Ramp(700.0, 0.0, 1.0), items)
    run_until(clock, offering, 2 * SECOND, 10 * MS)
    assert sink.taken == (items * 140)[:700]


def test_after_a_stall_no_call_takes_more_than_a_batch() -> None:
    clock, sink, offering, _ = rig(Ramp(100_000.0, 0.0, 1.0))
    clock.now_ns = SECOND
    offering.turn()
    assert len(sink.taken) == BATCH_MAX
    assert offering.due == 100_000


def test_a_load_that_is_stopped_settles_what_it_sent_and_no_more() -> None:
    clock, sink, offering, _ = rig(delay_ns=50 * MS)
    run_until(clock, offering, SECOND)
    offering.stop()
    run_until(clock, offering, 9 * SECOND)
    assert offering.is_done()
    assert len(sink.taken) < 1010


# --- profiles ------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", list(Profile))
def test_the_same_seed_offers_the_same_events(profile: Profile) -> None:
    one, other = (rows(profile, 200, 7, 3) for _ in range(2))
    assert one == other
    assert len(one.payloads) == ROWS
    assert len(one.items()) == ROWS


@pytest.mark.parametrize("profile", list(Profile))
def test_another_seed_or_producer_offers_other_events(profile: Profile) -> None:
    found = [rows(profile, 200, seed, worker) for seed, worker in ((7, 3), (7, 4), (8, 3))]
    assert found[0] != found[1]
    assert found[0] != found[2]


def test_only_mixed_events_differ_in_size() -> None:
    for profile in (Profile.UNIFORM, Profile.BURSTY, Profile.ZIPF):
        assert {len(payload) for payload in rows(profile, 300, 0, 0).payloads} == {300}
    sizes = [len(payload) for payload in rows(Profile.MIXED, 300, 0, 0).payloads]
    assert set(sizes) <= set(SIZES)
    assert (min(sizes), max(SIZES)) == (64, 65536)
    assert sizes.count(64) == pytest.approx(2 * sizes.count(128), rel=0.2)


def test_subjects_follow_the_law_of_zipf() -> None:
    subjects = rows(Profile.ZIPF, 200, 0, 0).subjects
    assert subjects is not None
    harmonic = sum(1 / rank for rank in range(1, KEYS + 1))
    for rank in (1, 2, 5):
        expected = ROWS / rank / harmonic
        assert subjects.count(f"sensor-{rank:05d}") == pytest.approx(expected, rel=0.25)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 11])
def test_sums_over_a_cycle_are_those_of_its_events(count: int) -> None:
    payloads = [b"a", b"bb", b"cccc"]
    size_of: Callable[[bytes], int] = len
    assert sums_of(payloads, count, size_of) == sum(map(len, (payloads * 4)[:count]))
