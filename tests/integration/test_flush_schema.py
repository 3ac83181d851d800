"""Servers and schemas that certeus did not make: refused with what to do, or used as they are."""

import asyncio

import pytest

from certeusd.flush import schema
from support.flushing import Rig, make_database, query, seqs, wait_until
from support.postgres import Server

pytestmark = pytest.mark.integration


def test_many_hosts_make_the_schema_at_the_same_time(database: str) -> None:
    async def one() -> bool:
        async with query(database) as connection:
            return await schema.ensure(connection, "json")

    async def run() -> None:
        assert await asyncio.gather(*(one() for _ in range(8))) == [False] * 8

    asyncio.run(run())


def test_a_database_that_is_not_utf8_is_refused(rig: Rig, postgres: Server) -> None:
    rig.begin()
    rig.append(1)
    name = make_database(postgres, "ENCODING 'LATIN1' TEMPLATE template0")

    async def run() -> None:
        async with rig.flusher(postgres.dsn(name)):
            rig.durable()
            await wait_until(lambda: rig.is_active("postgres-refuses"), "it is told")
        state = rig.states("postgres-refuses")[0]
        assert "LATIN1" in state.what
        assert "UTF8" in state.next
        assert rig.flushed_seq == 0

    asyncio.run(run())


@pytest.mark.parametrize("setting", ["fsync", "full_page_writes"])
def test_a_server_that_may_forget_commits_is_refused_until_it_is_set_right(
    rig: Rig, postgres: Server, database: str, setting: str
) -> None:
    rig.begin()
    rig.append(1)

    async def run() -> None:
        async with query(database) as connection:
            await connection.execute(f"ALTER SYSTEM SET {setting} = off")
            await connection.execute("SELECT pg_reload_conf()")
        try:
            async with rig.flusher(database):
                rig.durable()
                await wait_until(lambda: rig.is_active("postgres-refuses"), "it is told")
                assert setting in rig.states("postgres-refuses")[0].what
                assert rig.flushed_seq == 0
                async with query(database) as connection:
                    await connection.execute(f"ALTER SYSTEM RESET {setting}")
                    await connection.execute("SELECT pg_reload_conf()")
                await rig.flushed()
        finally:
            async with query(database) as connection:
                await connection.execute(f"ALTER SYSTEM RESET {setting}")
                await connection.execute("SELECT pg_reload_conf()")

    asyncio.run(run())


def test_a_schema_of_a_later_version_is_refused(rig: Rig, database: str) -> None:
    rig.begin()
    rig.append(1)

    async def run() -> None:
        async with query(database) as connection:
            await connection.execute(schema.ddl())
            await connection.execute("INSERT INTO certeus.schema_version VALUES (99)")
        async with rig.flusher(database):
            rig.durable()
            await wait_until(lambda: rig.is_active("postgres-refuses"), "it is told")
        assert "version 99" in rig.states("postgres-refuses")[0].what

    asyncio.run(run())


def test_a_dba_made_schema_needs_its_grants_and_each_missing_one_is_named(
    rig: Rig, postgres: Server
) -> None:
    rig.begin()
    rig.append(3)
    name = make_database(postgres)
    owner = postgres.dsn(name)
    role = f"writer_{name}"

    async def told(needle: str) -> None:
        await wait_until(
            lambda: any(needle in one.next for one in rig.states("postgres-refuses")), needle
        )

    async def run() -> None:
        async with query(owner) as dba:
            await dba.execute(f"CREATE ROLE {role} LOGIN")
            async with rig.flusher(postgres.dsn(name, role)):
                rig.durable()
                await told(f'GRANT CREATE ON DATABASE "{name}"')
                await dba.execute(schema.ddl())
                await told("GRANT USAGE ON SCHEMA certeus")
                await dba.execute(f"GRANT USAGE ON SCHEMA certeus TO {role}")
                await told("GRANT SELECT, INSERT, UPDATE ON certeus.flush_position")
                await dba.execute(
                    f"GRANT SELECT, INSERT ON certeus.events, certeus.dead_letters, certeus.gaps"
                    f" TO {role};"
                    f"GRANT SELECT, INSERT, UPDATE ON certeus.logs, certeus.flush_position"
                    f" TO {role};"
                    f"GRANT SELECT ON certeus.schema_version TO {role};"
                )
                await told("GRANT EXECUTE ON FUNCTION certeus.make_leaf(date)")
                assert rig.flushed_seq == 0
                await dba.execute(f"GRANT EXECUTE ON FUNCTION certeus.make_leaf(date) TO {role}")
                await rig.flushed()
                assert not rig.is_active("postgres-refuses")
        assert await seqs(owner) == [1, 2, 3]

    asyncio.run(run())


def test_retention_drops_old_leaves_only(rig: Rig, database: str) -> None:
    async def run() -> None:
        async with query(database) as connection:
            await schema.ensure(connection, "json")
            for day in (20260101, 20260102, 20260103):
                await schema.make_leaf(connection, day)
            dropped = await schema.drop_leaves(connection, schema.date_of(20260103))
            assert dropped == ["events_20260101", "events_20260102"]
            assert await schema.drop_leaves(connection, schema.date_of(20260103)) == []

    asyncio.run(run())


def test_no_server_at_all_is_told_and_the_flusher_stays(rig: Rig) -> None:
    rig.begin()
    rig.append(1)

    async def run() -> None:
        async with rig.flusher(f"postgresql://postgres@/x?host={rig.state_dir}"):
            rig.durable()
            await wait_until(lambda: rig.is_active("postgres-away"), "it is told")
        assert rig.flushed_seq == 0

    asyncio.run(run())
