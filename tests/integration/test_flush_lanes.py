"""Far behind the log two connections deliver in turn: each row once, in order, whatever happens."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from certeusd.flush import lanes
from support.flushing import (
    LOCK,
    NOON_NS,
    UNLOCK,
    Rig,
    any_leaf,
    block_at,
    blocked_in_copy,
    query,
    seqs,
    staged,
)

pytestmark = pytest.mark.integration

BATCH_ROWS = 20
GROUP_ROWS = 10


async def made_schema(rig: Rig, database: str) -> None:
    """One event is delivered, so that everything is there."""
    rig.begin()
    rig.append(1)
    rig.durable()
    async with rig.flusher(database):
        await rig.flushed()


@asynccontextmanager
async def held_at(database: str, seq: int) -> AsyncGenerator["asyncpg.Connection[asyncpg.Record]"]:
    """A session that keeps the row `seq` from being stored until it lets go."""
    async with query(database) as admin:
        await admin.execute(block_at(seq))
        await admin.execute(LOCK)
        yield admin


def test_a_batch_is_on_its_way_while_the_one_before_is_not_committed(
    rig: Rig, database: str
) -> None:
    async def run() -> None:
        await made_schema(rig, database)
        for _ in range(40):
            rig.append(GROUP_ROWS)
        rig.durable()
        flusher = rig.flusher(database, batch_rows_max=BATCH_ROWS)
        async with held_at(database, 5) as admin, flusher:
            first = await blocked_in_copy(admin)
            assert await staged(admin) != first
            assert await seqs(database) == [1], "nothing overtakes"
            await admin.execute(UNLOCK)
            await rig.flushed()
        assert await seqs(database) == list(range(1, 402))

    asyncio.run(run())


@pytest.mark.parametrize("which", ["the one before", "the one that waits"])
def test_the_end_of_either_connection_leaves_no_hole_and_no_double(
    rig: Rig, database: str, which: str
) -> None:
    async def run() -> None:
        await made_schema(rig, database)
        for _ in range(40):
            rig.append(GROUP_ROWS)
        rig.durable()
        flusher = rig.flusher(database, batch_rows_max=BATCH_ROWS)
        async with held_at(database, 5) as admin, flusher:
            first, second = await blocked_in_copy(admin), await staged(admin)
            pid = first if which == "the one before" else second
            await admin.execute("SELECT pg_terminate_backend($1)", pid)
            assert await blocked_in_copy(admin, but=first) != first
            assert await seqs(database) == [1]
            await admin.execute(UNLOCK)
            await rig.flushed()
        assert await seqs(database) == list(range(1, 402))

    asyncio.run(run())


def test_rows_that_get_in_each_others_way_go_over_one_connection(
    rig: Rig, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lanes, "LOOK_INTERVAL_S", 0.01)

    async def run() -> None:
        await made_schema(rig, database)
        for number in range(2, 402):
            # Of the second batch's first row, and again in the middle of the one before it.
            same = number in (15, 22)
            rig.ticket += 1
            rig.log.record(1, rig.ticket, "tick", b'{"n": %d}' % (0 if same else number))
            if (number - 1) % GROUP_ROWS == 0:
                rig.log.commit(NOON_NS)
        rig.durable()
        async with held_at(database, 5) as admin:
            leaf = await any_leaf(admin)
            await admin.execute(f"CREATE UNIQUE INDEX ON {leaf} ((data->>'n'))")
            async with rig.flusher(database, batch_rows_max=BATCH_ROWS):
                await blocked_in_copy(admin)
                await staged(admin)
                await admin.execute(UNLOCK)
                await rig.flushed()
        assert await seqs(database, "dead_letters") == [22]
        assert await seqs(database) == [seq for seq in range(1, 402) if seq != 22]

    asyncio.run(run())
