"""A flusher with everything around it but PostgreSQL: board, bell, and a log made by hand."""

import asyncio
import contextlib
import itertools
import os
import uuid
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import asyncpg
import structlog

from certeusd._native import SegmentBuilder
from certeusd.board import BOARD_BYTES, Board
from certeusd.channel import Message, Report, State
from certeusd.config import PostgresSection
from certeusd.flush.breaker import Pause
from certeusd.flush.flusher import Flusher
from certeusd.flush.settings import Settings
from certeusd.logs import Logger
from support.postgres import Server

NOON_NS = 1_790_000_000_000_000_000 // 86_400_000_000_000 * 86_400_000_000_000 + 43_200_000_000_000
DAY_NS = 86_400_000_000_000
LOG_KEY = bytes(range(32))
WAIT_S = 20.0
QUICKLY = Pause(0.001, 0.05)
LOCK_KEY = 4711
LOCK = f"SELECT pg_advisory_lock({LOCK_KEY})"
UNLOCK = f"SELECT pg_advisory_unlock({LOCK_KEY})"
STAGED = (
    "SELECT pid FROM pg_stat_activity WHERE state = 'idle in transaction'"
    " AND application_name LIKE 'certeus:%' AND datname = current_database()"
)
WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = $1"

_databases = itertools.count(1)


def quiet_logger() -> Logger:
    logger: Logger = structlog.wrap_logger(
        structlog.PrintLogger(), wrapper_class=structlog.make_filtering_bound_logger(50)
    )
    return logger


async def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = WAIT_S) -> None:
    """Returns as soon as `condition` holds, and fails the test when it never does."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  # another process sets it
            await asyncio.sleep(0.002)
    assert condition(), what


class Rig:
    """A state directory with a log, and the shared pages of a daemon."""

    def __init__(self, folder: Path, log_uuid: uuid.UUID | None = None) -> None:
        self.state_dir = folder
        self.log_dir = folder / "log"
        self.log_dir.mkdir(parents=True)
        self.uuid = log_uuid or uuid.uuid4()
        self.log = SegmentBuilder(self.log_dir, self.uuid.bytes, LOG_KEY)
        self.board_fd = os.memfd_create("certeus-board")
        os.ftruncate(self.board_fd, BOARD_BYTES)
        self.board = Board(self.board_fd)
        self.bell = os.eventfd(0, os.EFD_NONBLOCK)
        self.messages: list[Message] = []
        self.ticket = 0

    def close(self) -> None:
        os.close(self.board_fd)
        os.close(self.bell)

    def begin(self) -> None:
        """The first segment, with one producer."""
        self.log.segment()
        self.log.producer(1, "default", "check")

    def append(self, count: int, recorded_at_ns: int = NOON_NS) -> tuple[int, int]:
        """One group of simple events; returns its first and last seq. Not durable yet."""
        for _ in range(count):
            self.ticket += 1
            self.log.record(1, self.ticket, "tick", b'{"n": %d}' % self.ticket)
        committed = self.log.commit(recorded_at_ns)
        return committed[2], committed[3]

    def durable(self, seq: int | None = None) -> None:
        """Publishes as the log writer does."""
        self.board.set("durability", "durable_seq", seq or self.log.next_seq - 1)
        os.eventfd_write(self.bell, 1)

    @property
    def flushed_seq(self) -> int:
        return self.board.get("follower", "position_seq")

    async def flushed(self, seq: int | None = None, timeout_s: float = WAIT_S) -> None:
        wanted = seq or self.log.next_seq - 1
        await wait_until(lambda: self.flushed_seq >= wanted, f"seq {wanted} is flushed", timeout_s)

    async def housekept(self, rounds: int = 3) -> None:
        """Waits until the flusher has looked after its house so many times more."""
        for _ in range(rounds):
            self.board.set("flush", "heartbeat_ns", 0)
            await wait_until(lambda: self.board.get("flush", "heartbeat_ns") > 0, "it beats")

    async def rechecked(self, rounds: int = 3) -> None:
        """Waits until the flusher has connected so many times more."""
        wanted = self.board.get("flush", "reconnects_total") + rounds
        await wait_until(
            lambda: self.board.get("flush", "reconnects_total") >= wanted, "it looks again"
        )

    def states(self, code: str) -> list[State]:
        return [one for one in self.messages if isinstance(one, State) and one.code == code]

    def report(self, kind: str) -> dict[str, object]:
        """The newest report of a kind."""
        told = [one for one in self.messages if isinstance(one, Report) and one.kind == kind]
        return told[-1].data if told else {}

    def is_active(self, code: str) -> bool:
        told = self.states(code)
        return bool(told) and told[-1].active

    @contextlib.asynccontextmanager
    async def flusher(
        self,
        dsn: str,
        stall_timeout_s: float = 10.0,
        lock_timeout_s: float = 5.0,
        recheck_s: float = 0.05,
        away_pause: Pause = QUICKLY,
        look_s: float = 30.0,
        **postgres: object,
    ) -> AsyncGenerator[Flusher]:
        settings = Settings(
            dsn=dsn,
            postgres=PostgresSection(**postgres),  # type: ignore[arg-type]  # by name, in tests
            log_dir=self.log_dir,
            followers_dir=self.state_dir / "followers",
            recheck_s=recheck_s,
            housekeeping_s=0.05,
            look_s=look_s,
            stall_timeout_s=stall_timeout_s,
            lock_timeout_s=lock_timeout_s,
            away_pause=away_pause,
            refused_pause=Pause(0.05, 0.1),
        )
        flusher = Flusher(
            settings, self.board_fd, self.bell, self.messages.append, quiet_logger(), lambda: 0.5
        )
        task = asyncio.create_task(flusher.run())
        try:
            yield flusher
        finally:
            flusher.drain()
            async with asyncio.timeout(WAIT_S):
                await task


@contextlib.asynccontextmanager
async def query(dsn: str) -> AsyncGenerator["asyncpg.Connection[asyncpg.Record]"]:
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close()


def trigger(
    name: str, body: str, when: str = "true", on: str = "BEFORE INSERT ON certeus.events"
) -> str:
    """SQL that makes the server go wrong with rows `when`: a plpgsql function, and its trigger."""
    return (
        f"CREATE FUNCTION certeus.{name}() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$;"
        f" CREATE TRIGGER {name} {on} FOR EACH ROW WHEN ({when})"
        f" EXECUTE FUNCTION certeus.{name}();"
    )


def block_at(seq: int) -> str:
    """SQL that makes a COPY wait at a row for whoever holds `LOCK`."""
    body = f"BEGIN PERFORM pg_advisory_xact_lock({LOCK_KEY}); RETURN NEW; END"
    return trigger("block", body, f"NEW.seq = {seq}")


async def any_leaf(connection: "asyncpg.Connection[asyncpg.Record]") -> str:
    """A leaf that has rows, with its schema."""
    leaf = await connection.fetchval("SELECT tableoid::regclass::text FROM certeus.events LIMIT 1")
    assert isinstance(leaf, str)
    return leaf


async def waiting(
    connection: "asyncpg.Connection[asyncpg.Record]", event: str, but: int | None = None
) -> int:
    """Returns the session that waits for an event, as soon as there is one and none is `but`."""
    async with asyncio.timeout(WAIT_S):
        while True:
            found = [row["pid"] for row in await connection.fetch(WAITING, event)]
            if found and but not in found:
                return int(found[0])
            await asyncio.sleep(0.005)


async def blocked_in_copy(
    connection: "asyncpg.Connection[asyncpg.Record]", but: int | None = None
) -> int:
    """Returns the session that waits for this connection's lock, as soon as none is `but`."""
    return await waiting(connection, "advisory", but)


async def staged(admin: "asyncpg.Connection[asyncpg.Record]") -> int:
    """Returns the session that has sent its rows and waits for its turn."""
    async with asyncio.timeout(WAIT_S):
        while True:
            pid = await admin.fetchval(STAGED)
            if pid is not None:
                return int(pid)
            await asyncio.sleep(0.005)


async def seqs(dsn: str, table: str = "events") -> list[int]:
    """All `seq` of a table, as they come, sorted."""
    async with query(dsn) as connection:
        rows = await connection.fetch(f"SELECT seq FROM certeus.{table} ORDER BY log_id, seq")
        return [row["seq"] for row in rows]


async def gaps(dsn: str) -> list[tuple[int, int, str]]:
    """What `certeus.gaps` names, in order."""
    async with query(dsn) as connection:
        rows = await connection.fetch(
            "SELECT first_seq, last_seq, reason FROM certeus.gaps ORDER BY log_id, first_seq"
        )
        return [(row["first_seq"], row["last_seq"], row["reason"]) for row in rows]


def make_database(running: Server, options: str = "") -> str:
    """A new, empty database; returns its name."""
    name = f"test{next(_databases)}"

    async def create() -> None:
        async with query(running.dsn()) as connection:
            await connection.execute(f"CREATE DATABASE {name} {options}")

    asyncio.run(create())
    return name
