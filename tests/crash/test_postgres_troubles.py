"""A server in every trouble that we know: delivery stops, says why, and goes on by itself.

Each trouble meets the real flusher process in the middle of a batch, or with one to deliver, and a
backlog behind it. Afterwards every row is there once and in order, and nothing is told any more.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from pathlib import Path
from typing import NamedTuple

import asyncpg
import pytest

from certeusd.channel import Retry
from certeusd.flush import schema
from support.attack import Attack, Outcome, compare
from support.delay_proxy import DelayProxy
from support.flush_process import FlushProcess, flush_process
from support.flushing import (
    LOCK,
    UNLOCK,
    Rig,
    any_leaf,
    block_at,
    blocked_in_copy,
    query,
    trigger,
    wait_until,
)
from support.postgres import Server, installations, server

pytestmark = [pytest.mark.crash, pytest.mark.integration]

GROUPS = 40
ROWS_EACH = 50
MID_ROW = 750
APP = """
DO $$ BEGIN CREATE ROLE app LOGIN PASSWORD 'first'; EXCEPTION WHEN duplicate_object THEN END $$;
GRANT USAGE ON SCHEMA certeus TO app;
GRANT SELECT, INSERT ON certeus.events, certeus.dead_letters, certeus.gaps TO app;
GRANT SELECT, INSERT, UPDATE ON certeus.logs, certeus.flush_position TO app;
GRANT SELECT ON certeus.schema_version TO app;
GRANT EXECUTE ON FUNCTION certeus.make_leaf(date) TO app;
ALTER ROLE app PASSWORD 'first';
"""
FLUSHERS = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'certeus:%'"
PATIENCE_S = 90.0
TINY = "size=128k"


class Scene:
    """The server, the log, a connection that stays, and the process."""

    def __init__(self, server: Server, rig: Rig) -> None:
        self.server, self.rig = server, rig
        self.admin: asyncpg.Connection[asyncpg.Record] | None = None
        self.process: FlushProcess | None = None

    @property
    def sql(self) -> "asyncpg.Connection[asyncpg.Record]":
        assert self.admin is not None
        return self.admin

    def dsn(self) -> str:
        return self.server.dsn(user="app").replace("app@", "app:first@")

    async def told(self, code: str, words: str = "") -> str:
        """Waits until a reason is told, with these words in it: the first try may meet another."""

        def is_told() -> bool:
            return self.rig.is_active(code) and words in self.rig.states(code)[-1].what

        await wait_until(is_told, f"{code} is told, with '{words}'", PATIENCE_S)
        return self.rig.states(code)[-1].what

    async def breaker(self, *states: str) -> dict[str, object]:
        await wait_until(
            lambda: self.rig.report("breaker").get("state") in states, f"{states}", PATIENCE_S
        )
        return self.rig.report("breaker")

    async def backends(self) -> list[int]:
        return [row["pid"] for row in await self.sql.fetch(FLUSHERS)]

    async def drop_connections(self) -> None:
        await self.sql.execute(f"SELECT pg_terminate_backend(pid) FROM ({FLUSHERS}) AS found")

    async def in_mid_copy(self) -> int:
        """Holds the flusher in the middle of a COPY; its backend."""
        await self.sql.execute(LOCK)
        self.rig.durable()
        return await blocked_in_copy(self.sql)

    async def release(self) -> None:
        await self.sql.execute(UNLOCK)


Trouble = Callable[[Scene], Awaitable[None]]


async def restart(scene: Scene, end: Callable[[], None]) -> None:
    await scene.in_mid_copy()
    end()
    await scene.told("postgres-away")
    assert (await scene.breaker("open"))["cause"] == "away"
    assert scene.rig.flushed_seq < MID_ROW
    scene.server.start()


async def server_stopped_fast(scene: Scene) -> None:
    await restart(scene, lambda: scene.server.stop(signal.SIGINT))


async def server_stopped_immediately(scene: Scene) -> None:
    await restart(scene, lambda: scene.server.stop(signal.SIGQUIT))


async def every_process_of_the_server_killed(scene: Scene) -> None:
    await restart(scene, scene.server.kill)


async def backend_killed(scene: Scene) -> None:
    os.kill(await scene.in_mid_copy(), signal.SIGKILL)
    await scene.told("postgres-away")


async def backend_terminated(scene: Scene) -> None:
    await scene.sql.execute("SELECT pg_terminate_backend($1)", await scene.in_mid_copy())
    await scene.told("postgres-away")
    await scene.release()


async def backend_stopped(scene: Scene) -> None:
    """SIGSTOP: it neither answers nor dies, and holds the position's lock."""
    backend = await scene.in_mid_copy()
    os.kill(backend, signal.SIGSTOP)
    try:
        await scene.told("postgres-away", "has not answered")
        await scene.breaker("open")
    finally:
        os.kill(backend, signal.SIGCONT)
    await scene.release()


async def no_connection_left(scene: Scene) -> None:
    await scene.drop_connections()
    taken: list[asyncpg.Connection[asyncpg.Record]] = []
    with contextlib.suppress(asyncpg.TooManyConnectionsError):
        while True:
            taken.append(await asyncpg.connect(scene.server.dsn()))
            with contextlib.suppress(asyncpg.PostgresError):
                await scene.drop_connections()
    # The flusher is outside by now, or it takes a slot that is taken from it right away.
    while "TooManyConnections" not in (
        scene.rig.states("postgres-away")[-1].what if scene.rig.states("postgres-away") else ""
    ):
        await scene.drop_connections()
        with contextlib.suppress(asyncpg.TooManyConnectionsError):
            taken.append(await asyncpg.connect(scene.server.dsn()))
        await asyncio.sleep(0)
    scene.rig.durable()
    assert "max_connections" in scene.rig.states("postgres-away")[-1].next
    assert (await scene.breaker("open"))["cause"] == "away"
    for connection in taken:
        await connection.close()


async def position_locked_by_another(scene: Scene) -> None:
    other = await asyncpg.connect(scene.server.dsn(), server_settings={"application_name": "dba"})
    await other.execute("BEGIN; SELECT * FROM certeus.flush_position FOR UPDATE")
    scene.rig.durable()
    what = await scene.told("postgres-locked")
    assert f"{other.get_server_pid()} (dba, " in what
    assert (await scene.breaker("open"))["cause"] == "away"
    await other.close()


async def leaf_locked_by_another(scene: Scene) -> None:
    leaf = await any_leaf(scene.sql)
    other = await asyncpg.connect(scene.server.dsn(), server_settings={"application_name": "dba"})
    await other.execute(f"BEGIN; LOCK TABLE {leaf} IN ACCESS EXCLUSIVE MODE")
    scene.rig.durable()
    await scene.told("postgres-locked", "(dba, ")
    await other.close()


async def leaf_detached(scene: Scene) -> None:
    leaf = await any_leaf(scene.sql)
    await scene.sql.execute(f"ALTER TABLE certeus.events DETACH PARTITION {leaf}")
    await scene.sql.execute(f"ALTER TABLE {leaf} RENAME TO aside")
    scene.rig.durable()
    await scene.rig.flushed(timeout_s=PATIENCE_S)
    await scene.sql.execute(f"INSERT INTO {leaf} SELECT * FROM certeus.aside")
    await scene.sql.execute("DROP TABLE certeus.aside")


async def table_renamed(scene: Scene) -> None:
    await scene.sql.execute("ALTER TABLE certeus.flush_position RENAME TO aside")
    scene.rig.durable()
    await scene.told("postgres-refuses", "no table flush_position")
    assert (await scene.breaker("open"))["cause"] == "refuses"
    await scene.sql.execute("ALTER TABLE certeus.aside RENAME TO flush_position")


async def schema_renamed(scene: Scene) -> None:
    await scene.sql.execute("ALTER SCHEMA certeus RENAME TO aside")
    scene.rig.durable()
    await scene.told("postgres-refuses", "cannot make the schema certeus")
    await scene.breaker("open")
    await scene.sql.execute("ALTER SCHEMA aside RENAME TO certeus")


async def password_changed(scene: Scene) -> None:
    await scene.sql.execute("ALTER ROLE app PASSWORD 'second'")
    await scene.drop_connections()
    scene.rig.durable()
    await scene.told("postgres-refuses", "InvalidPassword")
    assert (await scene.breaker("open"))["cause"] == "refuses"
    assert "first" not in scene.rig.states("postgres-refuses")[-1].what
    await scene.sql.execute("ALTER ROLE app PASSWORD 'first'")


async def grant_taken(scene: Scene) -> None:
    await scene.sql.execute("REVOKE UPDATE ON certeus.flush_position FROM app")
    scene.rig.durable()
    await scene.told("postgres-refuses")
    await scene.breaker("open")
    await scene.sql.execute("GRANT UPDATE ON certeus.flush_position TO app")


async def server_read_only(scene: Scene) -> None:
    await scene.sql.execute("ALTER SYSTEM SET default_transaction_read_only = on")
    await scene.sql.execute("SELECT pg_reload_conf()")
    scene.rig.durable()
    await scene.told("postgres-away", "ReadOnlySQLTransaction")
    assert (await scene.breaker("open"))["cause"] == "away"
    assert "takes no writes" in scene.rig.states("postgres-away")[-1].next
    await scene.sql.execute("SET default_transaction_read_only = off")
    await scene.sql.execute("ALTER SYSTEM RESET default_transaction_read_only")
    await scene.sql.execute("SELECT pg_reload_conf()")


async def fsync_off(scene: Scene) -> None:
    scene.server.stop(signal.SIGINT)
    scene.server.start(fsync="off")
    scene.rig.durable()
    await scene.told("postgres-refuses", "fsync=off")
    assert (await scene.breaker("open"))["cause"] == "refuses"
    scene.server.stop(signal.SIGINT)
    scene.server.start()


async def damage_reported(scene: Scene) -> None:
    """XX: nothing more is sent until an admin says so."""
    await scene.sql.execute(
        trigger(
            "damaged",
            "BEGIN RAISE EXCEPTION 'invalid page in block 7' USING ERRCODE = 'XX001'; END",
            on="BEFORE UPDATE ON certeus.flush_position",
        )
    )
    scene.rig.durable()
    await scene.told("postgres-broken", "invalid page")
    report = await scene.breaker("open")
    assert (report["cause"], report["next_attempt_at"]) == ("broken", None)
    await scene.sql.execute("DROP TRIGGER damaged ON certeus.flush_position")
    await scene.rig.housekept()
    assert scene.rig.report("breaker")["state"] == "open", "it does not try by itself"
    assert scene.process is not None
    scene.process.send(Retry())


async def disk_full(scene: Scene) -> None:
    with tiny_disk(scene.server) as disk:
        await scene.sql.execute(f"CREATE TABLESPACE tiny LOCATION '{disk}'")
        leaf = await any_leaf(scene.sql)
        await scene.sql.execute(f"ALTER TABLE {leaf} SET TABLESPACE tiny")
        scene.rig.durable()
        await scene.told("postgres-away", "DiskFull")
        assert (await scene.breaker("open"))["cause"] == "away"
        make_larger(disk)
        await scene.rig.flushed(timeout_s=PATIENCE_S)
        await scene.sql.execute(f"ALTER TABLE {leaf} SET TABLESPACE pg_default")
        await scene.sql.execute("DROP TABLESPACE tiny")
        await scene.sql.execute("CHECKPOINT")


def make_larger(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)


@contextlib.contextmanager
def tiny_disk(running: Server) -> Generator[Path]:
    """A file system of the server's user, too small for the backlog; it can be made larger."""
    folder = Path(tempfile.mkdtemp(prefix="certeus-tiny-", dir="/tmp"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", TINY, "tmpfs", folder], check=True)
    try:
        owner = running.data.stat()
        os.chown(folder, owner.st_uid, owner.st_gid)
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
        shutil.rmtree(folder)


NEEDS_ROOT = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root to mount a file system of its own"
)


class Case(NamedTuple):
    """A trouble, and whether only `make crash` has the time for it."""

    trouble: Trouble
    only_full: bool = False
    root: bool = False


CASES = [
    Case(server_stopped_fast, only_full=True),
    Case(server_stopped_immediately, only_full=True),
    Case(every_process_of_the_server_killed, only_full=True),
    Case(backend_killed),
    Case(backend_terminated),
    Case(backend_stopped, only_full=True),
    Case(no_connection_left, only_full=True),
    Case(position_locked_by_another),
    Case(leaf_locked_by_another, only_full=True),
    Case(leaf_detached, only_full=True),
    Case(table_renamed, only_full=True),
    Case(schema_renamed, only_full=True),
    Case(password_changed, only_full=True),
    Case(grant_taken, only_full=True),
    Case(server_read_only),
    Case(fsync_off, only_full=True),
    Case(damage_reported),
    Case(disk_full, only_full=True, root=True),
]


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    """A server that asks `app` for its password."""
    with server(sorted(installations().items())[-1][1]) as running:
        rules = running.data / "pg_hba.conf"
        rules.write_text("local all app scram-sha-256\nlocal all all trust\n")
        running.stop(signal.SIGINT)
        running.start(max_connections="12")
        yield running


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "state")
    yield made
    made.close()


@contextlib.asynccontextmanager
async def scene_of(running: Server, rig: Rig) -> AsyncGenerator[Scene]:
    """The schema, a first group delivered, and a backlog that is not told yet."""
    scene = Scene(running, rig)
    rig.begin()
    rig.append(ROWS_EACH)
    first = rig.log.next_seq - 1
    scene.admin = await asyncpg.connect(running.dsn())
    await scene.sql.execute("DROP SCHEMA IF EXISTS certeus CASCADE")
    await scene.sql.execute(schema.ddl() + block_at(MID_ROW) + APP)
    for _ in range(GROUPS):
        rig.append(ROWS_EACH)
    limits = {"batch_rows_max": 200, "stall_timeout_ms": 1500, "lock_timeout_ms": 700}
    try:
        with flush_process(rig, scene.dsn(), **limits) as scene.process:
            rig.durable(first)
            await rig.flushed(first)
            yield scene
            await rig.flushed(timeout_s=PATIENCE_S)
            await scene.breaker("closed")
            await wait_until(lambda: not told_codes(rig), f"{told_codes(rig)} is over", PATIENCE_S)
    finally:
        scene.sql.terminate()


def told_codes(rig: Rig) -> set[str]:
    codes = {"postgres-away", "postgres-refuses", "postgres-broken", "postgres-locked"}
    return {code for code in codes if rig.is_active(code)}


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(
            case.trouble,
            id=case.trouble.__name__,
            marks=[
                *([pytest.mark.full] if case.only_full else []),
                *([NEEDS_ROOT] if case.root else []),
            ],
        )
        for case in CASES
    ],
)
def test_a_server_in_trouble_gets_each_row_once_when_it_is_well_again(
    guarded: Server, rig: Rig, attack: Attack, trouble: Trouble
) -> None:
    async def run() -> tuple[int, list[int]]:
        async with scene_of(guarded, rig) as scene:
            in_flight = rig.log.next_seq - 1 - rig.flushed_seq
            await trouble(scene)
        async with query(guarded.dsn()) as connection:
            assert await connection.fetchval("SELECT count(*) FROM certeus.dead_letters") == 0
            assert await connection.fetchval("SELECT count(*) FROM certeus.gaps") == 0
            position = await connection.fetchval("SELECT seq FROM certeus.flush_position")
            assert position == rig.log.next_seq - 1
            rows = await connection.fetch("SELECT ticket FROM certeus.events ORDER BY seq")
        return in_flight, [row["ticket"] for row in rows]

    in_flight, found = asyncio.run(run())
    verdict = compare(list(range(1, rig.ticket + 1)), found)
    attack.report(
        Outcome(
            attack=f"PostgreSQL: {trouble.__name__.replace('_', ' ')}",
            cases=1,
            acknowledged=rig.ticket,
            in_flight=in_flight,
            lost=verdict.lost,
            doubled=verdict.doubled,
            reordered=verdict.reordered,
        )
    )


def test_a_slow_server_is_waited_for_and_not_called_away(
    guarded: Server, rig: Rig, attack: Attack
) -> None:
    rig.begin()
    for _ in range(10):
        rig.append(ROWS_EACH)

    async def run() -> list[int]:
        async with query(guarded.dsn()) as connection:
            await connection.execute("DROP SCHEMA IF EXISTS certeus CASCADE")
            proxy = DelayProxy(guarded.socket_path(), 0.01)
            with tempfile.TemporaryDirectory(prefix="certeus-", dir="/tmp") as folder:
                async with proxy.listening(Path(folder)) as host:
                    dsn = f"postgresql://postgres@/postgres?host={host}"
                    async with rig.flusher(dsn, batch_rows_max=ROWS_EACH, stall_timeout_s=2.0):
                        rig.durable()
                        await rig.flushed(timeout_s=PATIENCE_S)
            rows = await connection.fetch("SELECT ticket FROM certeus.events ORDER BY seq")
            return [row["ticket"] for row in rows]

    found = asyncio.run(run())
    assert rig.report("breaker")["failures"] == 0
    assert not told_codes(rig)
    verdict = compare(list(range(1, rig.ticket + 1)), found)
    attack.report(
        Outcome(
            attack="PostgreSQL: slow at every packet",
            cases=10,
            acknowledged=rig.ticket,
            in_flight=ROWS_EACH,
            lost=verdict.lost,
            doubled=verdict.doubled,
            reordered=verdict.reordered,
        )
    )
