"""What others do to the tables, to the server's settings, and to what was restored."""

import asyncio
import uuid

import pytest

from certeusd.flush import schema, transaction
from certeusd.flush.connection import Link
from certeusd.flush.position import Position
from certeusd.log import identity
from support.flushing import NOON_NS, Rig, any_leaf, gaps, query, seqs, trigger, wait_until, waiting

pytestmark = pytest.mark.integration

OLD_LEAF = "events_20200101"
HINDERED = {
    "a view on it": f"CREATE VIEW certeus.looks AS SELECT seq FROM certeus.{OLD_LEAF}",
    "tomorrow is taken": """
        CREATE TABLE certeus.taken (LIKE certeus.events INCLUDING ALL);
        ALTER TABLE certeus.events ATTACH PARTITION certeus.taken
            FOR VALUES FROM (now() + interval '23 hours') TO (now() + interval '90 days')
    """,
}


@pytest.mark.parametrize("statement", HINDERED.values(), ids=HINDERED)
def test_leaves_that_cannot_be_kept_do_not_hold_delivery_up(
    rig: Rig, database: str, statement: str
) -> None:
    rig.begin()
    rig.append(5)

    async def run() -> None:
        async with query(database) as connection:
            await schema.ensure(connection, "json")
            await schema.make_leaf(connection, int(OLD_LEAF[-8:]))
            await connection.execute(statement)
        async with rig.flusher(database, retention_days=30):
            rig.durable()
            await rig.flushed()
            assert rig.is_active("postgres-leaves")
        assert await seqs(database) == [1, 2, 3, 4, 5]

    asyncio.run(run())


def test_a_long_reader_holds_up_retention_and_no_event(rig: Rig, database: str) -> None:
    rig.begin()
    rig.append(5)

    async def run() -> None:
        async with query(database) as connection:
            await schema.ensure(connection, "json")
            await schema.make_leaf(connection, int(OLD_LEAF[-8:]))
            async with connection.transaction():
                await connection.fetch("SELECT * FROM certeus.events")
                async with rig.flusher(database, lock_timeout_s=0.2, retention_days=30):
                    rig.durable()
                    await rig.flushed()
                    assert rig.is_active("postgres-leaves")

    asyncio.run(run())


def test_a_leaf_that_was_detached_is_attached_again_and_gets_no_row_before(
    rig: Rig, database: str
) -> None:
    rig.begin()
    rig.append(5)

    async def run() -> None:
        async with rig.flusher(database):
            rig.durable()
            await rig.flushed()
            async with query(database) as connection:
                leaf = await any_leaf(connection)
                await connection.execute(f"ALTER TABLE certeus.events DETACH PARTITION {leaf}")
            rig.append(5, NOON_NS)
            rig.durable()
            await rig.flushed()
        assert await seqs(database) == list(range(1, 11))
        assert rig.board.get("flush", "reconnects_total") == 1

    asyncio.run(run())


def test_a_row_that_an_extension_refuses_becomes_a_dead_letter(rig: Rig, database: str) -> None:
    rig.begin()
    rig.append(100)

    async def run() -> None:
        async with query(database) as connection:
            await connection.execute(schema.ddl())
            await connection.execute(
                trigger(
                    "odd",
                    "BEGIN RAISE 'parse error: invalid geometry' USING ERRCODE = 'XX000'; END",
                    "NEW.seq = 50",
                )
            )
        async with rig.flusher(database):
            rig.durable()
            await rig.flushed()
        assert await seqs(database, "dead_letters") == [50]
        assert await seqs(database) == [seq for seq in range(1, 101) if seq != 50]

    asyncio.run(run())


def test_every_transaction_waits_for_its_commit_whatever_a_pooler_keeps_to_itself(
    rig: Rig, database: str
) -> None:
    rig.begin()
    rig.append(3)

    async def run() -> None:
        async with query(database) as connection:
            await connection.execute(schema.ddl())
            await connection.execute(
                "CREATE TABLE certeus.seen (value text);"
                + trigger(
                    "look",
                    "BEGIN INSERT INTO certeus.seen VALUES (current_setting('synchronous_commit'));"
                    " RETURN NEW; END",
                )
            )
        link = await Link.open(database, rig.uuid)
        # As the session of a pooler that ignores what was asked for at its start.
        await link.connection.execute("SET synchronous_commit = off")
        try:
            log_id = await schema.log_id(link.connection, rig.uuid, "host")
            position = await transaction.read_position(link.connection, log_id)
            async with transaction.whole(link.connection):
                await link.connection.execute(
                    "INSERT INTO certeus.seen VALUES (current_setting('synchronous_commit'))"
                )
            assert position == Position.start()
            seen = await link.connection.fetch("SELECT value FROM certeus.seen")
        finally:
            await link.close()
        assert {row["value"] for row in seen} == {"on"}

    asyncio.run(run())


@pytest.mark.parametrize("table", ["dead_letters", "gaps"])
def test_what_stands_for_an_event_is_not_left_out_either(
    rig: Rig, database: str, table: str
) -> None:
    rig.begin()
    rig.append(1)
    rig.log.segment(before_next_seq=5)
    rig.log.producer(1, "default", "check")
    rig.append(1)

    async def run() -> None:
        async with query(database) as connection:
            await connection.execute(schema.ddl())
            await connection.execute(
                trigger("odd", "BEGIN RAISE 'no' USING ERRCODE = '23514'; END", "NEW.seq = 1")
                + trigger("drop", "BEGIN RETURN NULL; END", on=f"BEFORE INSERT ON certeus.{table}")
            )
        async with rig.flusher(database) as flusher:
            rig.durable()
            if table == "gaps":
                await wait_until(lambda: rig.is_active("log-gap"), "it stops there")
                flusher.accept_gap(2, 4)
            await rig.rechecked()
            assert rig.flushed_seq == (1 if table == "gaps" else 0)
            async with query(database) as connection:
                await connection.execute(f"DROP TRIGGER drop ON certeus.{table}")
            if table == "dead_letters":
                await wait_until(lambda: rig.is_active("log-gap"), "it stops there")
                flusher.accept_gap(2, 4)
            await rig.flushed()
        assert await seqs(database, "dead_letters") == [1]
        assert await gaps(database) == [(2, 4, "lost")]
        assert await seqs(database) == [5]

    asyncio.run(run())


def test_what_waits_for_a_standby_is_waited_for_by_the_next_life_too(
    rig: Rig, database: str
) -> None:
    rig.begin()
    rig.append(5)

    async def run() -> None:
        async with (
            query(database) as connection,
            rig.flusher(database, stall_timeout_s=1.0, lock_timeout_s=0.3),
        ):
            rig.durable()
            await rig.flushed()
            await connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
            await connection.execute("SELECT pg_reload_conf()")
            try:
                rig.append(5)
                rig.durable()
                session = await waiting(connection, "SyncRep")
                await wait_until(lambda: rig.is_active("postgres-locked"), "it is given up")
                assert f"{session} (certeus:{rig.uuid}, waits for a standby)" in (
                    rig.states("postgres-locked")[-1].what
                )
                assert await waiting(connection, "SyncRep") == session, "nobody has ended it"
                # Now its rows are there to be seen, and a failover would still lose them.
                await connection.execute("SELECT pg_terminate_backend($1)", session)
                await waiting(connection, "SyncRep", but=session)
                assert await seqs(database) == list(range(1, 11))
                assert rig.flushed_seq == 5
            finally:
                await connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
                await connection.execute("SELECT pg_reload_conf()")
            await rig.flushed()
        assert await seqs(database) == list(range(1, 11))

    asyncio.run(run())


@pytest.mark.parametrize("away", ["behind-log", "diverged"])
def test_what_a_restored_server_may_lack_is_not_trimmed(rig: Rig, database: str, away: str) -> None:
    rig.begin()
    for _ in range(3):
        rig.append(10)
        rig.log.segment()
        rig.log.producer(1, "default", "check")
    rig.append(10)

    async def run() -> None:
        async with rig.flusher(database):
            rig.durable()
            await rig.flushed()
        assert rig.board.get("follower", "trim_segment") == 4
        (rig.log_dir / f"{1:020}.log").unlink()
        root = "0" * 64 if away == "behind-log" else "ab" * 32
        group, seq = (0, 0) if away == "behind-log" else (4, 40)
        async with query(database) as connection:
            await connection.execute(
                "DELETE FROM certeus.events; UPDATE certeus.flush_position"
                f" SET group_no = {group}, seq = {seq}, root = '\\x{root}'"
            )
        async with rig.flusher(database):
            await wait_until(lambda: rig.is_active(away), "it is told")
            assert rig.board.get("follower", "trim_segment") == 0
            if away == "behind-log":
                assert rig.flushed_seq == 0, "nobody is told that they are there"

    asyncio.run(run())


def test_a_forked_log_tells_what_a_server_lacks_that_does_not_know_it(
    rig: Rig, database: str
) -> None:
    rig.begin()
    rig.append(10)
    rig.log.segment()
    rig.log.producer(1, "default", "check")
    rig.append(10)
    (rig.log_dir / f"{1:020}.log").unlink()
    identity.fork(rig.log_dir, identity.Identity(uuid.uuid4(), (rig.uuid,)))

    async def run() -> None:
        async with rig.flusher(database) as flusher:
            rig.durable()
            await wait_until(lambda: rig.is_active("behind-log"), "it is told")
            assert await seqs(database) == []
            flusher.accept_gap(1, 10)
            await rig.flushed()
        assert await gaps(database) == [(1, 10, "trimmed")]
        assert await seqs(database) == list(range(11, 21))

    asyncio.run(run())


def test_batches_become_smaller_until_a_slow_server_can_take_them(rig: Rig, database: str) -> None:
    rig.begin()
    for _ in range(8):
        rig.append(500)

    async def run() -> None:
        async with query(database) as connection:
            await connection.execute(schema.ddl())
            await connection.execute(
                trigger(
                    "slow",
                    "DECLARE rows int := coalesce(nullif(current_setting('my.n', true), ''), '0');"
                    " BEGIN PERFORM set_config('my.n', (rows + 1)::text, true);"
                    " IF rows >= 1200 THEN RAISE 'too slow' USING ERRCODE = '57014'; END IF;"
                    " RETURN NEW; END",
                )
            )
        async with rig.flusher(database, batch_rows_max=4000):
            rig.durable()
            await rig.flushed()
        assert await seqs(database) == list(range(1, 4001))
        # At the size that failed it would fail again behind each probe.
        assert 1 <= rig.board.get("flush", "reconnects_total") <= 3

    asyncio.run(run())
