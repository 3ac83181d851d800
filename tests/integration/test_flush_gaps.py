"""Where the log lost numbers the follower stops, until an admin accepts that very range."""

import asyncio

import pytest

from certeusd.log.reader import LogReader
from support.flushing import Rig, gaps, seqs, wait_until

pytestmark = pytest.mark.integration


def make_gap(rig: Rig, next_seq: int, count: int = 4) -> None:
    """The log goes on at `next_seq`, in a segment of its own."""
    rig.log.segment(before_next_seq=next_seq)
    rig.log.producer(1, "default", "check")
    rig.append(count)


def test_a_gap_stops_the_flusher_until_its_very_range_is_accepted(rig: Rig, database: str) -> None:
    rig.begin()
    rig.append(4)
    make_gap(rig, 11)

    async def run() -> None:
        async with rig.flusher(database) as flusher:
            flusher.accept_gap(5, 10)  # Too early: nobody has seen it yet.
            rig.durable()
            await wait_until(lambda: rig.is_active("log-gap"), "it is told")
            told = rig.states("log-gap")[-1]
            assert "5..10" in told.what
            assert "certeus gap accept 5..10" in told.next
            assert rig.report("gap") == {
                "code": "log-gap", "first_seq": 5, "last_seq": 10, "reason": "lost"
            }  # fmt: skip
            for wrong in ((5, 9), (4, 10), (1, 14), (11, 14)):
                flusher.accept_gap(*wrong)
            await rig.housekept()
            assert rig.flushed_seq == 4
            assert await gaps(database) == []
            assert rig.report("breaker")["state"] == "closed"
            flusher.accept_gap(5, 10)
            await rig.flushed()
            await wait_until(lambda: not rig.is_active("log-gap"), "it is over")
        assert rig.report("gap") == {}
        assert await seqs(database) == [1, 2, 3, 4, 11, 12, 13, 14]
        assert await gaps(database) == [(5, 10, "lost")]

    asyncio.run(run())


def test_an_accepted_gap_does_not_accept_the_next_one(rig: Rig, database: str) -> None:
    rig.begin()
    rig.append(4)
    make_gap(rig, 11)
    make_gap(rig, 21)

    async def run() -> None:
        async with rig.flusher(database) as flusher:
            rig.durable()
            await wait_until(lambda: rig.is_active("log-gap"), "it is told")
            flusher.accept_gap(5, 10)
            flusher.accept_gap(15, 20)
            await rig.flushed(14)
            await wait_until(lambda: rig.report("gap").get("first_seq") == 15, "the second is told")
            flusher.accept_gap(5, 10)
            await rig.housekept()
            assert rig.flushed_seq == 14
            flusher.accept_gap(15, 20)
            await rig.flushed()
        assert await gaps(database) == [(5, 10, "lost"), (15, 20, "lost")]
        assert await seqs(database) == [1, 2, 3, 4, *range(11, 15), *range(21, 25)]

    asyncio.run(run())


def test_an_acceptance_is_void_when_another_range_is_missing_by_then(
    rig: Rig, database: str
) -> None:
    """A segment that was put back shortens the gap: what was accepted is not what is missing."""
    rig.begin()
    rig.append(4)
    for _ in range(3):
        rig.log.segment()
        rig.log.producer(1, "default", "check")
        rig.append(4)
    away = [rig.log_dir / f"{number:020}.log" for number in (2, 3)]

    async def run() -> None:
        for path in away:
            path.rename(path.with_suffix(".away"))
        async with rig.flusher(database, recheck_s=3600) as flusher:
            rig.durable()
            await wait_until(lambda: rig.report("gap").get("last_seq") == 12, "5..12 is told")
            away[0].with_suffix(".away").rename(away[0])
            flusher.accept_gap(5, 12)
            await wait_until(lambda: rig.report("gap").get("first_seq") == 9, "9..12 is told")
            assert await gaps(database) == []
            assert rig.flushed_seq == 8
        async with rig.flusher(database):
            await wait_until(lambda: rig.is_active("log-gap"), "it is told again")
            away[1].with_suffix(".away").rename(away[1])
            # Nobody accepts anything: what was missing is back.
            await rig.flushed()
            await wait_until(lambda: not rig.is_active("log-gap"), "it is over")
        assert await gaps(database) == []
        assert await seqs(database) == list(range(1, 17))

    asyncio.run(run())


def test_an_acceptance_is_void_when_more_is_missing_by_then(rig: Rig, database: str) -> None:
    rig.begin()
    rig.append(4)
    for _ in range(3):
        rig.log.segment()
        rig.log.producer(1, "default", "check")
        rig.append(4)
    second, third = (rig.log_dir / f"{number:020}.log" for number in (2, 3))

    async def run() -> None:
        second.unlink()
        async with rig.flusher(database, recheck_s=3600) as flusher:
            rig.durable()
            await wait_until(lambda: rig.report("gap").get("last_seq") == 8, "5..8 is told")
            third.unlink()
            flusher.accept_gap(5, 8)
            await wait_until(lambda: rig.report("gap").get("last_seq") == 12, "5..12 is told")
            await rig.housekept()
            assert await gaps(database) == []
            flusher.accept_gap(5, 12)
            await rig.flushed()
        assert [gap[:2] for gap in await gaps(database)] == [(5, 12)]

    asyncio.run(run())


def test_a_gap_at_the_end_of_the_log_is_stopped_at_and_rows_behind_it_follow(
    rig: Rig, database: str
) -> None:
    rig.begin()
    rig.append(4)
    rig.log.segment(before_next_seq=11)

    async def run() -> None:
        async with rig.flusher(database) as flusher:
            rig.durable()
            await wait_until(lambda: rig.is_active("log-gap"), "it is told")
            flusher.accept_gap(5, 10)
            await rig.flushed(10)
        rig.log.producer(1, "default", "check")
        rig.append(2)
        async with rig.flusher(database):
            rig.durable()
            await rig.flushed()
        assert await seqs(database) == [1, 2, 3, 4, 11, 12]
        assert await gaps(database) == [(5, 10, "lost")]

    asyncio.run(run())


def test_behind_log_stops_until_the_gap_is_accepted(rig: Rig, database: str) -> None:
    rig.begin()
    rig.append(5)

    async def run() -> None:
        async with rig.flusher(database):
            rig.durable()
            await rig.flushed()
        rig.append(5)
        rig.log.segment()
        rig.log.producer(1, "default", "check")
        rig.append(5)
        (rig.log_dir / f"{1:020}.log").unlink()
        async with rig.flusher(database) as flusher:
            rig.durable()
            await wait_until(lambda: rig.is_active("behind-log"), "it is told")
            assert rig.flushed_seq == 5
            flusher.accept_gap(5, 10)  # Not the one that is shown.
            await rig.rechecked()
            assert rig.flushed_seq == 5
            flusher.accept_gap(6, 10)
            await rig.flushed()
            assert not rig.is_active("behind-log")
        assert await seqs(database) == [1, 2, 3, 4, 5, 11, 12, 13, 14, 15]
        assert await gaps(database) == [(6, 10, "trimmed")]

    asyncio.run(run())


def test_a_position_behind_a_gap_is_ours_though_several_segments_begin_behind_its_group(
    rig: Rig,
) -> None:
    rig.begin()
    rig.append(4)
    rig.log.segment()
    make_gap(rig, 11)
    reader = LogReader(rig.log_dir)
    batch = reader.next_batch(14, 100, 1 << 20)
    assert batch is not None
    told = [reader.position_status(batch.group, batch.root, seq) for seq in (4, 10, 11)]
    assert told == ["ok", "ok", "diverged"]
