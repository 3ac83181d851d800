"""The loop: connect, find our place, then batch after batch until something ends it.

```text
         ┌────────────── backoff ◀─────────────┐ any error
         ▼                                     │
     connect ─▶ place ─ok, start─▶ deliver ────┤
                  │                            │
                  ├─ diverged ────▶ wait ──────┤ looked at again, slowly
                  └─ behind-log ──▶ wait ──────┘ until an admin accepts the gap
```

PostgreSQL's position alone decides where to go on, after every connect. Reading and encoding the
next batch happen in a thread while this one is on its way. Nothing here is needed for durability:
the process may be killed at any point.
"""

import asyncio
import contextlib
import datetime
import os
import socket
import time
import urllib.parse
import uuid
from collections.abc import Callable, Generator
from pathlib import Path
from typing import NamedTuple

import asyncpg

from certeusd import _native
from certeusd.board import Board
from certeusd.channel import Message, Progress, Ready, Report
from certeusd.config import PostgresSection
from certeusd.flush import dead_letters, schema, transaction
from certeusd.flush.backoff import Backoff
from certeusd.flush.connection import LOCK_TIMEOUT_S, STALL_TIMEOUT_S, Link
from certeusd.flush.errors import (
    FlushError,
    LogUnreadableError,
    Meaning,
    PositionLostError,
    in_words,
    meaning_of,
)
from certeusd.flush.position import FOLLOWER, Position, write_file
from certeusd.flush.reasons import Reasons
from certeusd.flush.transaction import Prepared, Target
from certeusd.log.reader import LogReader
from certeusd.logs import Logger

NEVER = 2**64 - 1
POSITION_FILE_INTERVAL_S = 1.0
HOUSEKEEPING_INTERVAL_S = 1.0
DEAD_LETTERS_INTERVAL_S = 60.0
RECHECK_INTERVAL_S = 30.0
AWAY_DELAY_S = (0.05, 5.0)
REFUSED_DELAY_S = (5.0, 60.0)


class Settings(NamedTuple):
    """What the flusher is given at its start."""

    dsn: str
    """May carry a password: never logged."""
    postgres: PostgresSection
    log_dir: Path
    followers_dir: Path
    recheck_s: float = RECHECK_INTERVAL_S
    stall_timeout_s: float = STALL_TIMEOUT_S
    lock_timeout_s: float = LOCK_TIMEOUT_S
    away_delay_s: tuple[float, float] = AWAY_DELAY_S
    refused_delay_s: tuple[float, float] = REFUSED_DELAY_S


class Place(NamedTuple):
    """A connection, where rows go, and the log that they are of."""

    link: Link
    target: Target
    log_uuid: uuid.UUID


@contextlib.contextmanager
def reading_the_log() -> Generator[None]:
    """Tell what the log's reader raises from what PostgreSQL raises."""
    try:
        yield
    except (OSError, ValueError) as error:
        next_step = "Run `certeus log check`; new events stay durable meanwhile."
        raise LogUnreadableError(str(error), next_step) from error


class Flusher:
    """Delivers the log to PostgreSQL. `bell` and `board` are lent for its life."""

    def __init__(
        self,
        settings: Settings,
        board: int,
        bell: int,
        tell: Callable[[Message], object],
        log: Logger,
        random: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._reader = LogReader(settings.log_dir)
        self._page = _native.FollowerPage(board)
        self._board = Board(board)
        self._bell_fd = bell
        self._bell = asyncio.Event()
        self._draining = asyncio.Event()
        self._accepted = asyncio.Event()
        self._tell = tell
        self._reasons = Reasons(tell)
        self._log = log
        self._away = Backoff(*settings.away_delay_s, random)
        self._refused = Backoff(*settings.refused_delay_s, random)
        self._leaves: set[int] = set()
        self._leaves_day = 0
        self._unsynced: tuple[uuid.UUID, Position, int] | None = None
        self._synced_at = 0.0
        self._synced_segment = 0
        self._dead_letters_at = 0.0
        self._progressed = False
        self._connected_before = False

    def drain(self) -> None:
        """Stop after the batch under way."""
        self._draining.set()
        self._bell.set()

    def accept_gap(self) -> None:
        """Let `behind-log` write off what the log does not hold any more."""
        self._accepted.set()

    async def run(self) -> None:
        """Deliver until `drain`; every error is told, and tried again later."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._bell_fd, self._ring)
        self._page.want(NEVER)
        self._tell(Ready())
        try:
            while not self._draining.is_set():
                await self._attempt()
        finally:
            loop.remove_reader(self._bell_fd)
            self._page.want(NEVER)
            await self._sync_position(force=True)

    def _ring(self) -> None:
        try:
            os.read(self._bell_fd, 8)
        except BlockingIOError:
            return
        self._bell.set()

    async def _attempt(self) -> None:
        """One connection's life."""
        link: Link | None = None
        try:
            log_uuid = await self._log_uuid()
            if log_uuid is None:
                return
            settings = self._settings
            link = await Link.open(
                settings.dsn, log_uuid, settings.stall_timeout_s, settings.lock_timeout_s
            )
            await self._serve(link, log_uuid)
        except PositionLostError as error:
            self._log.warning("flush_position_lost", error=str(error))
            await self._pause(self._away.delay_s())
        except asyncpg.LockNotAvailableError as error:
            assert link is not None
            ended = 0 if link.connection.is_closed() else await link.terminate_others()
            self._log.warning("lock_wait_ended", error=str(error), sessions_terminated=ended)
            await self._pause(self._away.delay_s())
        except asyncpg.UndefinedTableError as error:
            # Retention, here or of another host, took a leaf away; the next life makes it again,
            # and says so if it is more that is missing.
            self._log.warning("leaf_missing", error=str(error))
            await self._pause(self._away.delay_s())
        except (asyncpg.PostgresError, asyncpg.InterfaceError, FlushError) as error:
            await self._failed(error)
        except (OSError, ValueError, EOFError) as error:
            await self._failed(error)
        finally:
            self._board.set("flush", "connected", 0)
            if link is not None:
                await link.close()

    async def _failed(self, error: Exception) -> None:
        meaning = meaning_of(error)
        what = self._without_password(in_words(error))
        if meaning is Meaning.AWAY:
            next_step = "Nothing is lost; certeus tries again by itself. Is the server running?"
            code, delay_s = "postgres-away", self._away.delay_s()
        else:
            broken = meaning is Meaning.BROKEN
            next_step = (
                "The server reports damage: look at its log before anything else."
                if broken
                else "Correct the configuration or the grants; certeus tries again by itself."
            )
            code = "postgres-broken" if broken else "postgres-refuses"
            delay_s = self._refused.delay_s()
        if isinstance(error, FlushError):
            what, next_step = error.what, error.next_step
            code = error.code or code
        if self._reasons.begin(code, what, next_step):
            self._log.warning("postgres_left", code=code, error=what)
        if not self._draining.is_set():
            await self._pause(delay_s)

    def _without_password(self, text: str) -> str:
        password = urllib.parse.urlsplit(self._settings.dsn).password
        return text.replace(password, "***") if password else text

    async def _pause(self, delay_s: float) -> None:
        try:
            await asyncio.wait_for(self._draining.wait(), delay_s)
        except TimeoutError:
            self._board.set("flush", "heartbeat_ns", time.monotonic_ns())

    async def _log_uuid(self) -> uuid.UUID | None:
        """Return the log's name; `None`, after a little while, if there is no log yet."""
        with reading_the_log():
            oldest = self._reader.oldest()
        if oldest is None:
            await self._pause(0.05)
            return None
        return uuid.UUID(bytes=oldest["log_uuid"])

    async def _serve(self, link: Link, log_uuid: uuid.UUID) -> None:
        postgres = self._settings.postgres
        version = await link.run(schema.check_server(link.connection))
        jsonb = await link.run(schema.ensure(link.connection, postgres.data))
        log_id = await link.run(schema.log_id(link.connection, log_uuid, socket.gethostname()))
        place = Place(link, Target(log_id, jsonb), log_uuid)
        self._leaves.clear()
        self._leaves_day = 0
        await self._look_after_leaves(link)
        position = await link.run(transaction.read_position(link.connection, log_id))
        self._board.set("flush", "connected", 1)
        self._board.add("flush", "reconnects_total", int(self._connected_before))
        self._connected_before = True
        self._tell(Report("postgres", {"version": version, "log_id": log_id, "jsonb": jsonb}))
        self._log.info("postgres_connected", version=version, log_id=log_id, seq=position.seq)
        for code in ("postgres-away", "postgres-refuses", "postgres-broken"):
            self._reasons.end(code)
        await self._look_at_dead_letters(place)
        with reading_the_log():
            status = self._reader.position_status(position.group, position.root, position.seq)
        self._reasons.end("log-unreadable")
        if status == "diverged":
            await self._wait_diverged(link, position)
        elif status == "behind-log":
            await self._wait_behind(place, position)
        else:
            self._reasons.end("diverged")
            self._reasons.end("behind-log")
            self._publish(place, position, segment_no=0)
            await self._deliver(place, position)

    async def _wait_diverged(self, link: Link, position: Position) -> None:
        what = (
            f"PostgreSQL is at group {position.group}, seq {position.seq}, and this log has no such"
            " group: one of the two was restored or copied from another machine"
        )
        next_step = (
            "Bring back the log or the database that belong together; or give this log a new name"
            " by `certeus log fork`. New events stay durable meanwhile."
        )
        if self._reasons.begin("diverged", what, next_step):
            self._log.error("flusher_diverged", group=position.group, seq=position.seq)
        await link.close()
        await self._pause(self._settings.recheck_s)

    async def _wait_behind(self, place: Place, position: Position) -> None:
        oldest = self._reader.oldest()
        assert oldest is not None
        first_seq, last_seq = position.seq + 1, oldest["before_next_seq"] - 1
        what = (
            f"PostgreSQL is at seq {position.seq}, but the log begins at {last_seq + 1}:"
            f" events {first_seq}..{last_seq} are not in the log any more"
        )
        next_step = (
            "Restore the database to a later state; or write the range off by"
            " `certeus gap accept`: it is then named in certeus.gaps."
        )
        if self._reasons.begin("behind-log", what, next_step):
            self._log.error("flusher_behind_log", first_seq=first_seq, last_seq=last_seq)
        waits = {asyncio.ensure_future(event.wait()) for event in (self._accepted, self._draining)}
        await asyncio.wait(
            waits, timeout=self._settings.recheck_s, return_when=asyncio.FIRST_COMPLETED
        )
        for wait in waits:
            wait.cancel()
        if not self._accepted.is_set():
            return
        self._accepted.clear()
        after = Position(oldest["before_group"], last_seq, oldest["before_root"], oldest["epoch"])
        step = transaction.accept_gap(place.link.connection, place.target, position, after)
        await place.link.run(step)
        self._log.warning("gap_accepted", first_seq=first_seq, last_seq=last_seq)
        self._board.add("flush", "gaps_total", 1)

    async def _deliver(self, place: Place, position: Position) -> None:
        self._reader.seek(position.group, position.seq, position.root)
        ahead: asyncio.Task[Prepared | None] | None = None
        try:
            while not self._draining.is_set():
                prepared = await (ahead or self._next(place.target))
                ahead = None
                if prepared is None:
                    await self._wait_for_events(place)
                    continue
                if self._page.durable_seq() > prepared.batch.last_seq + self._ahead_rows():
                    ahead = asyncio.create_task(self._next(place.target))
                position = await self._commit(place, position, prepared)
                if ahead is None:
                    await self._wait_for_events(place)
        finally:
            if ahead is not None:
                # The thread uses the reader: it must be out of it before anybody seeks.
                await asyncio.wait({ahead})
                if not ahead.cancelled():
                    ahead.exception()

    def _ahead_rows(self) -> int:
        """So many rows behind, the next batch is prepared without waiting for a tick."""
        return min(4096, self._settings.postgres.batch_rows_max)

    async def _next(self, target: Target) -> Prepared | None:
        postgres = self._settings.postgres
        durable_seq = self._page.durable_seq()
        if durable_seq < self._reader.next_seq:
            return None

        def read() -> Prepared | None:
            with reading_the_log():
                batch = self._reader.next_batch(
                    durable_seq, postgres.batch_rows_max, postgres.batch_bytes_max
                )
            return None if batch is None else transaction.prepare(batch, target)

        prepared = await asyncio.to_thread(read)
        if prepared is None and self._reader.stalled is not None:
            segment_no, offset = self._reader.stalled
            self._reasons.begin(
                "log-gap",
                f"durable events behind offset {offset} of segment {segment_no} cannot be read",
                "Run `certeus log check`; the gap is named as soon as the log goes on behind it.",
            )
        elif prepared is not None:
            self._reasons.end("log-gap")
        return prepared

    async def _commit(self, place: Place, position: Position, prepared: Prepared) -> Position:
        batch = prepared.batch
        started_ns = time.monotonic_ns()
        if batch.rows and batch.day not in self._leaves:
            await place.link.run(schema.make_leaf(place.link.connection, batch.day))
            self._leaves.add(batch.day)
        link = place.link
        after, refused = await link.run(
            transaction.store(link.connection, place.target, position, prepared, link.moved)
        )
        took_ns = time.monotonic_ns() - started_ns
        board = self._board
        board.add("flush", "rows_total", batch.rows - refused)
        board.add("flush", "bytes_total", batch.bytes)
        board.add("flush", "batches_total", 1)
        board.add("flush", "dead_letters_total", refused)
        board.add("flush", "gaps_total", len(batch.gaps))
        board.add("flush", "commit_ns_sum", took_ns)
        board.observe("flush", "batch_ns_buckets_64", took_ns)
        board.observe("flush", "batch_rows_buckets_64", batch.rows)
        board.set("flush", "heartbeat_ns", time.monotonic_ns())
        self._away.reset()
        self._refused.reset()
        if refused:
            self._log.error("rows_refused", first_seq=batch.first_seq, rows=refused)
            await self._look_at_dead_letters(place)
        for first_seq, last_seq, reason in batch.gaps:
            self._log.error("gap_stored", first_seq=first_seq, last_seq=last_seq, reason=reason)
        self._publish(place, after, batch.segment_no)
        if not self._progressed:
            self._progressed = True
            self._tell(Progress())
        await self._sync_position(force=False)
        return after

    async def _look_at_dead_letters(self, place: Place) -> None:
        """Dead letters are a reason for as long as they lie in their table."""
        connection, log_id = place.link.connection, place.target.log_id
        count = await place.link.run(dead_letters.count(connection, log_id))
        self._dead_letters_at = time.monotonic()
        if count:
            many = f"at least {count}" if count == dead_letters.COUNT_MAX else str(count)
            self._reasons.begin(
                "dead-letters",
                f"PostgreSQL refused {many} events",
                "See sqlstate and reason in certeus.dead_letters; this goes when it is empty.",
            )
        else:
            self._reasons.end("dead-letters")

    def _publish(self, place: Place, position: Position, segment_no: int) -> None:
        self._page.publish(position.seq, position.group)
        self._unsynced = (place.log_uuid, position, segment_no)

    async def _sync_position(self, force: bool) -> None:
        """Write the position file when it is due, and only then allow the log to be trimmed."""
        if self._unsynced is None:
            return
        log_uuid, position, segment_no = self._unsynced
        due = time.monotonic() - self._synced_at >= POSITION_FILE_INTERVAL_S
        if not (force or due or segment_no > self._synced_segment):
            return
        path = self._settings.followers_dir / FOLLOWER
        self._synced_at = time.monotonic()
        try:
            await asyncio.to_thread(write_file, path, log_uuid, position)
        except OSError as error:
            # Rows go on; only trimming has to wait.
            next_step = "Make room on the state directory's disk, or correct its permissions."
            self._reasons.begin("position-file", f"cannot write {path}: {error}", next_step)
            return
        self._reasons.end("position-file")
        self._unsynced = None
        if segment_no > 0:
            self._synced_segment = segment_no
            self._page.allow_trim(segment_no)

    async def _wait_for_events(self, place: Place) -> None:
        """Sleep until there is something, then until the tick or until a batch is full."""
        link, wanted = place.link, self._reader.next_seq
        if self._reader.stalled is not None:
            await self._sleep(link, HOUSEKEEPING_INTERVAL_S)
            await self._housekeep(place)
        while self._page.want(wanted) < wanted and not self._draining.is_set():
            await self._sleep(link, HOUSEKEEPING_INTERVAL_S)
            await self._housekeep(place)
        full = wanted + self._settings.postgres.batch_rows_max - 1
        if self._page.want(full) < full and not self._draining.is_set():
            await self._sleep(link, self._settings.postgres.batch_ms / 1000)
        self._page.want(NEVER)

    async def _sleep(self, link: Link, seconds: float) -> None:
        """Wait for the bell, at most so long; raises as soon as the connection is lost."""
        bell = asyncio.ensure_future(self._bell.wait())
        lost = asyncio.ensure_future(link.lost.wait())
        try:
            await asyncio.wait({bell, lost}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            bell.cancel()
            lost.cancel()
        if not self._draining.is_set():
            self._bell.clear()
        if link.lost.is_set():
            raise ConnectionResetError("the connection to PostgreSQL was lost")

    async def _housekeep(self, place: Place) -> None:
        self._board.set("flush", "heartbeat_ns", time.monotonic_ns())
        await self._sync_position(force=False)
        await self._look_after_leaves(place.link)
        if time.monotonic() - self._dead_letters_at >= DEAD_LETTERS_INTERVAL_S:
            await self._look_at_dead_letters(place)

    async def _look_after_leaves(self, link: Link) -> None:
        """Once a day: the leaves of today and tomorrow, and those beyond retention."""
        today = datetime.datetime.now(datetime.UTC).date()
        if self._leaves_day == today.toordinal():
            return
        try:
            for date in (today, today + datetime.timedelta(days=1)):
                day = date.year * 10_000 + date.month * 100 + date.day
                await link.run(schema.make_leaf(link.connection, day))
                self._leaves.add(day)
            retention_days = self._settings.postgres.retention_days
            if retention_days:
                before = today - datetime.timedelta(days=retention_days)
                dropped = await link.run(schema.drop_leaves(link.connection, before))
                if dropped:
                    self._log.info("leaves_dropped", count=len(dropped), last=dropped[-1])
                self._leaves = {day for day in self._leaves if schema.leaf_name(day) not in dropped}
            self._reasons.end("postgres-leaves")
        except schema.SchemaError as error:
            # Not fatal here: the leaf may be needed by nobody, or be made by a DBA in time.
            self._reasons.begin("postgres-leaves", error.what, error.next_step)
        self._leaves_day = today.toordinal()
