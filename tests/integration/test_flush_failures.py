"""Dying servers, cut connections, positions that are not ours: each row once, or a stop."""

import asyncio
import json
import random
import tempfile
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from certeusd.flush import dead_letters, schema, transaction
from certeusd.flush.connection import Link
from certeusd.flush.errors import PositionLostError
from certeusd.flush.lanes import Turn
from certeusd.flush.position import Position
from certeusd.log.reader import LogReader
from support.cutting_proxy import CuttingProxy
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
    trigger,
    wait_until,
)
from support.postgres import Server

pytestmark = pytest.mark.integration


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A directory whose sockets' paths are short enough for AF_UNIX."""
    with tempfile.TemporaryDirectory(prefix="certeus-", dir="/tmp") as folder:
        yield Path(folder)


def test_a_lost_compare_and_set_stores_nothing(rig: Rig, database: str) -> None:
    rig.begin()
    rig.append(5)

    async def run() -> None:
        link = await Link.open(database, rig.uuid)
        connection = link.connection
        await schema.ensure(connection, "json")
        target = transaction.Target(await schema.log_id(connection, rig.uuid, "host"), False)
        before = await transaction.read_position(connection, target.log_id)
        batch = LogReader(rig.log_dir).next_batch(5, 100, 1 << 20)
        assert batch is not None
        await schema.make_leaf(connection, batch.day)
        rate = dead_letters.Rate(10, 1000)

        async def store(at: Position) -> tuple[Position, int]:
            step = transaction.store(connection, target, Turn.now(at), batch, link.moved, rate)
            return await step

        after, refused = await store(before)
        assert (after.seq, refused) == (5, 0)
        with pytest.raises(PositionLostError):
            await store(before)
        wrong_root = after._replace(root=bytes(32))
        with pytest.raises(PositionLostError):
            await store(wrong_root)
        await link.close()
        assert await seqs(database) == [1, 2, 3, 4, 5]

    asyncio.run(run())


def test_two_flushers_of_one_log_store_each_row_once(
    rig: Rig, database: str, tmp_path: Path
) -> None:
    twin = Rig(tmp_path / "twin", rig.uuid)
    for one in (rig, twin):
        one.begin()
        for _ in range(60):
            one.append(10)

    async def run() -> None:
        async with (
            rig.flusher(database, batch_rows_max=10),
            twin.flusher(database, batch_rows_max=10),
        ):
            rig.durable()
            twin.durable()
            await rig.flushed()
            await twin.flushed()
        assert await seqs(database) == list(range(1, 601))

    asyncio.run(run())
    twin.close()


def test_a_server_killed_in_the_middle_of_a_copy_gets_each_row_once(
    rig: Rig, postgres: Server, database: str
) -> None:
    rig.begin()
    for _ in range(10):
        rig.append(100)

    async def run() -> None:
        setup = await asyncpg.connect(database)
        await setup.execute(schema.ddl())
        await setup.execute(block_at(500))
        await setup.execute(LOCK)
        async with rig.flusher(database):
            rig.durable()
            await blocked_in_copy(setup)
            postgres.kill()
            await wait_until(lambda: rig.is_active("postgres-away"), "the flusher says so")
            assert rig.flushed_seq == 0
            postgres.start()
            await rig.flushed()
            assert not rig.is_active("postgres-away")
        setup.terminate()
        assert await seqs(database) == list(range(1, 1001))

    asyncio.run(run())


def test_a_zombie_that_holds_the_position_is_ended(
    rig: Rig, postgres: Server, database: str
) -> None:
    rig.begin()
    for _ in range(10):
        rig.append(100)

    async def run() -> None:
        async with query(database) as connection:
            await connection.execute(schema.ddl())
            await connection.execute(block_at(500))
            await connection.execute(LOCK)
            # The first COPY hangs and is given up; its session goes on waiting in the server, with
            # the row lock, until the second life ends it.
            async with rig.flusher(database, stall_timeout_s=0.3, lock_timeout_s=60):
                rig.durable()
                zombie = await blocked_in_copy(connection)
                await wait_until(lambda: rig.is_active("postgres-away"), "the stall is told")
            async with rig.flusher(database, lock_timeout_s=0.5):
                await blocked_in_copy(connection, but=zombie)
                await connection.execute(UNLOCK)
                await rig.flushed()
        assert await seqs(database) == list(range(1, 1001))

    asyncio.run(run())


@pytest.mark.parametrize("seed", [1, 2])
def test_a_connection_cut_at_any_byte_doubles_and_loses_nothing(
    rig: Rig, postgres: Server, database: str, short_folder: Path, seed: int
) -> None:
    print(f"seed {seed}")
    rng = random.Random(seed)
    rig.begin()
    for _ in range(60):
        rig.append(50)
    name = urllib.parse.urlsplit(database).path[1:]

    def limits(number: int) -> tuple[int, int] | None:
        if number >= 40:
            return None
        # What comes first (settings, checks) is a few KiB, a batch about 50; a commit's answer is
        # among the last bytes that come back.
        to_server = int(rng.choice([rng.uniform(1, 9000), rng.uniform(1, 400_000)]))
        return to_server, int(rng.uniform(2000, 40_000))

    async def run() -> None:
        proxy = CuttingProxy(postgres.socket_path(), limits)
        async with proxy.listening(short_folder) as host:
            dsn = f"postgresql://postgres@/{name}?host={host}"
            async with rig.flusher(dsn, batch_rows_max=250):
                rig.durable()
                await rig.flushed()
        assert proxy.cuts >= 5
        assert await seqs(database) == list(range(1, 3001))

    asyncio.run(run())


AT_ONCE = "ALTER TABLE certeus.events ADD CONSTRAINT odd CHECK (ticket NOT IN (1,77,78,79,300,500))"
AT_COMMIT = """
    CREATE TABLE certeus.known (ticket bigint PRIMARY KEY);
    INSERT INTO certeus.known SELECT * FROM generate_series(1, 500);
    DELETE FROM certeus.known WHERE ticket IN (1, 77, 78, 79, 300, 500);
    ALTER TABLE certeus.events ADD CONSTRAINT odd FOREIGN KEY (ticket) REFERENCES certeus.known
        DEFERRABLE INITIALLY DEFERRED;
"""
IN_SILENCE = trigger("odd", "BEGIN RETURN NULL; END", "NEW.ticket IN (1, 77, 78, 79, 300, 500)")
REFUSALS = {
    "at once": (AT_ONCE, "23514", 'constraint "odd"'),
    "at COMMIT": (AT_COMMIT, "23503", 'constraint "odd"'),
    "in silence": (IN_SILENCE, "27000", "a trigger left them out"),
}


@pytest.mark.parametrize(("refuses", "sqlstate", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_rows_that_the_server_refuses_become_dead_letters(
    rig: Rig, database: str, refuses: str, sqlstate: str, reason: str
) -> None:
    rig.begin()
    for _ in range(5):
        rig.append(100)

    async def run() -> None:
        async with query(database) as connection:
            await connection.execute(schema.ddl())
            await connection.execute(refuses)
        async with rig.flusher(database):
            rig.durable()
            await rig.flushed()
            await wait_until(lambda: rig.is_active("dead-letters"), "they are told")
        dead = [1, 77, 78, 79, 300, 500]
        assert await seqs(database, "dead_letters") == dead
        assert await seqs(database) == [n for n in range(1, 501) if n not in dead]
        async with query(database) as connection:
            letter = await connection.fetchrow(
                "SELECT sqlstate, reason, event->'data'->>'n' AS n, event->>'type' AS type, record"
                " FROM certeus.dead_letters WHERE seq = 77"
            )
        assert letter is not None
        assert (letter["sqlstate"], letter["n"], letter["type"]) == (sqlstate, "77", "tick")
        assert reason in letter["reason"]
        assert letter["record"].endswith(b'{"n": 77}')
        assert rig.board.get("flush", "dead_letters_total") == 6

    asyncio.run(run())


def test_another_logs_position_stops_the_flusher_as_diverged(
    rig: Rig, database: str, tmp_path: Path
) -> None:
    restored = Rig(tmp_path / "restored", rig.uuid)
    rig.begin()
    rig.append(5)
    restored.begin()
    restored.append(3)
    restored.append(9)

    async def run() -> None:
        async with rig.flusher(database):
            rig.durable()
            await rig.flushed()
        async with restored.flusher(database):
            restored.durable()
            await wait_until(lambda: restored.is_active("diverged"), "it is told")
        assert await seqs(database) == [1, 2, 3, 4, 5]
        assert "certeus log fork" in restored.states("diverged")[0].next

    asyncio.run(run())
    restored.close()


def test_a_leaf_that_retention_dropped_is_made_again(rig: Rig, database: str) -> None:
    rig.begin()
    rig.append(5)

    async def run() -> None:
        async with rig.flusher(database):
            rig.durable()
            await rig.flushed()
            async with query(database) as connection:
                leaf = await any_leaf(connection)
                await connection.execute(f"DROP TABLE {leaf}")
            rig.append(5, NOON_NS)
            rig.durable()
            await rig.flushed()
        assert await seqs(database) == [6, 7, 8, 9, 10]

    asyncio.run(run())


def test_a_position_file_that_cannot_be_written_holds_trimming_but_no_rows(
    rig: Rig, database: str
) -> None:
    rig.begin()
    rig.append(5)
    (rig.state_dir / "followers").write_text("not a directory")

    async def run() -> None:
        async with rig.flusher(database):
            rig.durable()
            await rig.flushed()
            await wait_until(lambda: rig.is_active("position-file"), "it is told")
        assert rig.board.get("follower", "trim_segment") == 0
        assert await seqs(database) == [1, 2, 3, 4, 5]

    asyncio.run(run())


def test_a_log_of_a_later_version_is_told_as_such(rig: Rig, database: str) -> None:
    rig.begin()
    rig.log.record(1, 1, "t", b"1", kind=0x89)
    rig.log.commit(NOON_NS)

    async def run() -> None:
        async with rig.flusher(database):
            rig.durable()
            await wait_until(lambda: rig.is_active("log-unreadable"), "it is told")
        assert not rig.is_active("postgres-away")

    asyncio.run(run())


def test_dead_letters_are_a_reason_until_their_table_is_empty(rig: Rig, database: str) -> None:
    rig.begin()
    rig.append(2)

    async def run() -> None:
        async with query(database) as connection:
            await connection.execute(schema.ddl())
            await connection.execute(
                "ALTER TABLE certeus.events ADD CONSTRAINT odd CHECK (ticket <> 1)"
            )
            async with rig.flusher(database):
                rig.durable()
                await wait_until(lambda: rig.is_active("dead-letters"), "it is told")
            async with rig.flusher(database):
                await rig.flushed()
            assert rig.is_active("dead-letters")
            await connection.execute("DELETE FROM certeus.dead_letters")
            async with rig.flusher(database):
                await wait_until(lambda: not rig.is_active("dead-letters"), "it is gone")

    asyncio.run(run())


def test_a_position_that_went_back_takes_back_the_leave_to_trim_and_is_replayed(
    rig: Rig, database: str
) -> None:
    rig.begin()
    for _ in range(3):
        rig.append(10)
        rig.log.segment()
        rig.log.producer(1, "default", "check")
    rig.append(10)
    seen: list[int] = []

    async def run() -> None:
        async with query(database) as connection:
            async with rig.flusher(database):
                rig.durable(10)
                await rig.flushed(10)
                early = await connection.fetchrow("SELECT * FROM certeus.flush_position")
                assert early is not None
                rig.durable()
                await rig.flushed()
            assert rig.board.get("follower", "trim_segment") == 4
            await connection.execute(
                "BEGIN; DELETE FROM certeus.events WHERE seq > 10; UPDATE certeus.flush_position"
                f" SET group_no = {early['group_no']}, seq = {early['seq']},"
                f" root = '\\x{early['root'].hex()}'; COMMIT"
            )
            # Nothing goes through: so the leave that is seen is the one from before the replay.
            await connection.execute(block_at(15))
            await connection.execute(LOCK)
            async with rig.flusher(database):
                await blocked_in_copy(connection)
                seen.append(rig.board.get("follower", "trim_segment"))
                told = json.loads((rig.state_dir / "followers" / "postgres").read_text())
                seen.append(told["seq"])
                await connection.execute(UNLOCK)
                await wait_until(lambda: rig.flushed_seq == 40, "all is replayed")
            assert rig.board.get("follower", "trim_segment") == 4
        assert seen == [0, 10]
        assert await seqs(database) == list(range(1, 41))

    asyncio.run(run())


def test_a_server_that_refuses_too_many_rows_gets_them_later_and_none_is_moved(
    rig: Rig, database: str
) -> None:
    rig.begin()
    for _ in range(20):
        rig.append(100)

    async def run() -> None:
        async with query(database) as connection:
            await connection.execute(schema.ddl())
            await connection.execute(
                "ALTER TABLE certeus.events ADD CONSTRAINT wrong CHECK (ticket < 501)"
            )
            async with rig.flusher(database, batch_rows_max=100) as flusher:
                rig.durable()
                await wait_until(lambda: rig.is_active("dead-letter-rate"), "it is told")
                told = rig.states("dead-letter-rate")[-1]
                assert 'constraint "wrong"' in told.what
                assert "certeus dead-letters accept" in told.next
                assert rig.report("breaker")["cause"] == "dead-letter-rate"
                failures = rig.board.get("flush", "breaker_failures")
                await wait_until(
                    lambda: rig.board.get("flush", "breaker_failures") > failures, "it tries"
                )
                assert await seqs(database, "dead_letters") == []
                assert await seqs(database) == list(range(1, 501))
                # Up to 600 an admin has looked at them; what comes later is guarded again.
                flusher.accept_dead_letters(600)
                await rig.flushed(600)
                await wait_until(lambda: rig.is_active("dead-letter-rate"), "it is told again")
                assert await seqs(database, "dead_letters") == list(range(501, 601))
                await connection.execute("ALTER TABLE certeus.events DROP CONSTRAINT wrong")
                await rig.flushed()
                await wait_until(lambda: not rig.is_active("dead-letter-rate"), "it is over")
        assert await seqs(database, "dead_letters") == list(range(501, 601))
        assert await seqs(database) == [*range(1, 501), *range(601, 2001)]

    asyncio.run(run())


def test_the_rate_of_dead_letters_holds_over_restarts_and_small_batches(
    rig: Rig, database: str
) -> None:
    rig.begin()
    for _ in range(50):
        rig.append(1)

    async def run() -> None:
        async with query(database) as connection:
            await connection.execute(schema.ddl())
            await connection.execute(
                "ALTER TABLE certeus.events ADD CONSTRAINT wrong CHECK (ticket < 1)"
            )
            for _ in range(4):
                async with rig.flusher(database, batch_rows_max=1, dead_letters_window_rows=400):
                    rig.durable()
                    rig.messages.clear()
                    await wait_until(lambda: rig.is_active("dead-letter-rate"), "it is told")
            # One percent of 400 rows, and no more with every life.
            assert await seqs(database, "dead_letters") == [1, 2, 3, 4]
            assert rig.flushed_seq == 4

    asyncio.run(run())


def test_a_server_that_went_back_behind_a_pooler_is_noticed_while_nothing_comes(
    rig: Rig, database: str
) -> None:
    """Our connection lives on, and no event comes that would meet the other position."""
    rig.begin()
    rig.append(10)

    async def run() -> None:
        async with query(database) as connection, rig.flusher(database, look_s=0.01):
            rig.durable()
            await rig.flushed()
            await connection.execute(
                "BEGIN; TRUNCATE certeus.events; UPDATE certeus.flush_position SET group_no = 0,"
                " seq = 0, epoch = 0, root = decode(repeat('00', 32), 'hex'); COMMIT"
            )
            async with asyncio.timeout(20):
                while len(await seqs(database)) < 10:  # noqa: ASYNC110  # PostgreSQL is asked
                    await asyncio.sleep(0)
            assert await seqs(database) == list(range(1, 11))

    asyncio.run(run())


def test_the_first_batch_after_an_outage_is_small(
    rig: Rig, postgres: Server, database: str
) -> None:
    rig.begin()
    for _ in range(40):
        rig.append(100)

    async def run() -> None:
        async with query(database) as connection:
            await connection.execute(schema.ddl())
            # The breaker opens, and the next attempt is the probe.
            await connection.execute("ALTER TABLE certeus.gaps RENAME TO aside")
            async with rig.flusher(database):
                rig.durable()
                await wait_until(lambda: rig.is_active("postgres-refuses"), "it is told")
                await connection.execute("ALTER TABLE certeus.aside RENAME TO gaps")
                await rig.flushed()
        sizes = rig.board.histogram("flush", "batch_rows_buckets_64")
        small = (500).bit_length()
        assert [int(sizes[at]) for at in range(small + 1) if sizes[at]] == [1], "one small batch"
        assert sum(sizes[small + 1 :]) >= 1, "and then large ones"

    asyncio.run(run())
