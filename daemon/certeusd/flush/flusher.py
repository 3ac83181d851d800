"""The loop: connect, find our place, then batch after batch until something ends it.

```text
     ┌───────────── breaker: open ◀────────────┐ any error
     ▼ due                                     │
  connect ─▶ place ─ok, start─▶ deliver ───────┤
                │                  └─ log-gap ─┤ until an admin accepts the gap, or it is gone
                ├─ diverged ────▶ wait ────────┤ looked at again, slowly
                └─ behind-log ──▶ wait ────────┘ until an admin accepts the gap
```

PostgreSQL's position alone decides where to go on, after every connect. Far behind the log, two
connections deliver in turn (`lanes`). Nothing here is needed for durability: the process may be
killed at any point.
"""

import asyncio
import contextlib
import os
import socket
import time
import uuid
from collections.abc import Callable
from typing import NamedTuple

import asyncpg

from certeusd import _native
from certeusd.board import Board
from certeusd.channel import Message, Progress, Ready, Report
from certeusd.flush import counting, dead_letters, forked, gate, schema, telling, transaction
from certeusd.flush.batches import Batches
from certeusd.flush.breaker import Cause
from certeusd.flush.confirm import Confirmations
from certeusd.flush.connection import Link
from certeusd.flush.errors import (
    DESTINATION_ERRORS,
    BlockedError,
    LeafDetachedError,
    LockedError,
    PositionLostError,
    reading_the_log,
)
from certeusd.flush.gate import Gap, Gate
from certeusd.flush.guard import Guard
from certeusd.flush.lanes import Lanes, Turn
from certeusd.flush.leaves import Leaves
from certeusd.flush.pace import Pace
from certeusd.flush.position import FOLLOWER, Position, has_confirmed
from certeusd.flush.reasons import Reasons
from certeusd.flush.room import Room
from certeusd.flush.second import Second, open_link
from certeusd.flush.settings import Settings
from certeusd.flush.transaction import Target
from certeusd.log import identity
from certeusd.log.reader import Batch, LogReader
from certeusd.logs import Logger

NEVER = 2**64 - 1


class Place(NamedTuple):
    """A connection, where rows go, and the log that they are of."""

    link: Link
    target: Target
    log_uuid: uuid.UUID


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
        self._tell = tell
        self._log = log
        self._reasons = Reasons(tell)
        self._gate = Gate(tell)
        self._guard = Guard(self._board, tell, log, settings.pauses(), random)
        self.pace = Pace(settings)
        self._room = Room(settings.log_dir, settings.shared_reserve_bytes, self._reasons, log)
        self._leaves = Leaves(settings.postgres.retention_days, self._reasons, log)
        self._confirmed = Confirmations(
            self._page, self._board, settings.followers_dir, self._reasons, log
        )
        self._letters_accepted_seq = 0
        self._looked_at = 0.0
        self._position: Position | None = None
        self._progressed = False
        self._batches = Batches(
            self._reader, self._page, self._gate, self._reasons,
            lambda: self.pace.limits(self._guard.is_probing),
        )  # fmt: skip
        self._second = Second(settings, log)
        self._connected_before = False

    def drain(self) -> None:
        """Stop after the batch under way."""
        self._draining.set()
        self._bell.set()

    def accept_gap(self, first_seq: int, last_seq: int) -> None:
        """Write off the numbers of the gap that is shown, if it is this one."""
        if self._gate.accept(first_seq, last_seq):
            self._bell.set()
        else:
            self._log.warning("gap_not_accepted", first_seq=first_seq, last_seq=last_seq)

    def retry(self) -> None:
        """Try the destination now, whatever it said before."""
        self._guard.retry()

    def accept_dead_letters(self, until_seq: int) -> None:
        """Let refused rows up to `until_seq` become dead letters, however many; and try again."""
        self._letters_accepted_seq = max(self._letters_accepted_seq, until_seq)
        self._log.warning("dead_letters_accepted", until_seq=until_seq)
        self._guard.retry()

    async def run(self) -> None:
        """Deliver until `drain`; every error is told, and tried again later."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._bell_fd, self._ring)
        self._page.want(NEVER)
        self._tell(Ready())
        self._guard.show()
        try:
            while await self._guard.pass_through(self._draining):
                await self._attempt()
        finally:
            loop.remove_reader(self._bell_fd)
            self._page.want(NEVER)
            await self._confirmed.sync(force=True)

    def _ring(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._bell_fd, 8)
            self._bell.set()

    async def _attempt(self) -> None:
        """One connection's life."""
        link: Link | None = None
        try:
            named = await self._identity()
            if named is None:
                return
            link = await open_link(self._settings, named.log_uuid)
            await self._serve(link, named)
        except BlockedError:  # told by the second connection, which is left for a while
            self._guard.failed(Cause.AWAY)
        except PositionLostError as error:
            self._log.warning("flush_position_lost", error=str(error))
            self._guard.failed(Cause.POSITION_LOST)
        except asyncpg.LockNotAvailableError as error:
            assert link is not None
            await self._second.close()
            await self._locked(link, error)
        except (asyncpg.UndefinedTableError, LeafDetachedError) as error:
            # Retention, here or of another host, took a leaf away, and the next life makes it
            # again. If that does not help, something else is missing.
            if self._guard.breaker.cause is Cause.LEAF_MISSING:
                self._failed(error)
            else:
                self._log.warning("leaf_missing", error=str(error))
                self._guard.failed(Cause.LEAF_MISSING)
        except DESTINATION_ERRORS as error:
            self._failed(error)
        finally:
            self._board.set("flush", "connected", 0)
            await self._second.close()
            if link is not None:
                await link.close()

    def _failed(self, error: Exception) -> None:
        trouble = telling.trouble_of(error)
        what = telling.without_password(trouble.what, self._settings.dsn)
        for code in telling.CODES:
            if code != trouble.code and self._reasons.is_active(code):
                self._reasons.end(code)
        if self._reasons.begin(trouble.code, what, trouble.next_step):
            page = trouble.cause is Cause.BROKEN
            say = self._log.error if page else self._log.warning
            say("postgres_left", code=trouble.code, error=what)
        self._guard.failed(trouble.cause)

    async def _locked(self, link: Link, error: Exception) -> None:
        """A lock was not to be had: end a former life of ours that has it, or tell who has it."""
        try:
            ended = 0 if link.connection.is_closed() else await link.terminate_others()
            self._log.warning("lock_wait_ended", error=str(error), sessions_terminated=ended)
            if ended:
                self._guard.failed(Cause.AWAY)
                return
            holders = await link.lock_holders()
        except DESTINATION_ERRORS as lost:
            self._failed(lost)
            return
        self._failed(
            LockedError(
                f"waited {self._settings.lock_timeout_s:g} s for a lock on the schema certeus;"
                f" it is held by {holders or 'a session that cannot be seen'}",
                "Bring back the standby that it waits for, or end that transaction: SELECT"
                " pg_terminate_backend(PID); certeus tries again by itself.",
            )
        )

    def _delivered(self) -> None:
        """The destination is well: what was told about it is over."""
        self._guard.delivered()
        for code in telling.CODES:
            self._reasons.end(code)

    async def _pause(self, delay_s: float) -> None:
        try:
            await asyncio.wait_for(self._draining.wait(), delay_s)
        except TimeoutError:
            self._board.set("flush", "heartbeat_ns", time.monotonic_ns())

    async def _identity(self) -> identity.Identity | None:
        """Return the log's name; `None`, after a little while, if there is no log yet."""
        with reading_the_log():
            oldest = self._reader.oldest()
            if oldest is not None:
                log_uuid = uuid.UUID(bytes=oldest["log_uuid"])
                named = identity.of_log(self._settings.log_dir, log_uuid)
                # What a forked log has in common with another one is known once it is recovered.
                if not named.before or self._page.durable_seq() > 0:
                    return named
        await self._pause(0.05)
        return None

    async def _serve(self, link: Link, named: identity.Identity) -> None:
        log_uuid = named.log_uuid
        postgres = self._settings.postgres
        version = await link.run(schema.check_server(link.connection))
        jsonb = await link.run(schema.ensure(link.connection, postgres.data))
        log_id = await link.run(schema.log_id(link.connection, log_uuid, socket.gethostname()))
        place = Place(link, Target(log_id, jsonb), log_uuid)
        self._position = None
        log_dir, durable_seq = self._settings.log_dir, self._page.durable_seq()
        confirmed = has_confirmed(self._settings.followers_dir / FOLLOWER, log_uuid)
        await forked.begin(link, log_id, named.before, log_dir, durable_seq, confirmed)
        position = await link.run(transaction.read_position(link.connection, log_id))
        self._board.set("flush", "connected", 1)
        self._board.add("flush", "reconnects_total", int(self._connected_before))
        self._connected_before = True
        self._tell(Report("postgres", {"version": version, "log_id": log_id, "jsonb": jsonb}))
        self._log.info("postgres_connected", version=version, log_id=log_id, seq=position.seq)
        self._leaves.forget()
        await self._leaves.look_after(link)
        await self._look_at_dead_letters(place)
        with reading_the_log():
            status = self._reader.position_status(position.group, position.root, position.seq)
        if status == "diverged":
            self._confirmed.take_back()
            self._delivered()
            await self._wait_diverged(link, log_uuid, position)
            return
        await self._confirmed.begin(log_uuid, position)
        if status == "behind-log":
            self._delivered()
            await self._wait_behind(place, position)
        else:
            self._reasons.end("diverged")
            self._reasons.end(gate.CODE_BEHIND_LOG)
            self._position = position
            await self._deliver(place, position)

    async def _wait_diverged(self, link: Link, log_uuid: uuid.UUID, position: Position) -> None:
        what = (
            f"PostgreSQL is at group {position.group}, seq {position.seq}, and this log has no such"
            " group: one of the two was restored or copied from another machine"
        )
        next_step = (
            "Bring back the log or the database that belong together; or stop certeusd and give"
            f" this log a new name: certeus log fork {log_uuid}. New events stay durable meanwhile."
        )
        if self._reasons.begin("diverged", what, next_step):
            self._log.error("flusher_diverged", group=position.group, seq=position.seq)
        await link.close()
        await self._pause(self._settings.recheck_s)

    async def _wait_behind(self, place: Place, position: Position) -> None:
        with reading_the_log():
            oldest = self._reader.oldest()
        assert oldest is not None
        last_seq = oldest["before_next_seq"] - 1
        gap = Gap(gate.CODE_BEHIND_LOG, position.seq + 1, last_seq, "trimmed")
        what = (
            f"PostgreSQL is at seq {position.seq}, but the log begins at {last_seq + 1}:"
            f" events {gap} are not in the log any more"
        )
        next_step = (
            "Restore the database to a later state; or write the range off by"
            f" `certeus gap accept {gap}`: it is then named in certeus.gaps."
        )
        self._gate.show(gap)
        if self._reasons.begin(gap.code, what, next_step):
            self._log.error("flusher_behind_log", first_seq=gap.first_seq, last_seq=last_seq)
        await self._wait_at_gate(place)
        if not self._gate.is_accepted(gap):
            return
        after = Position(oldest["before_group"], last_seq, oldest["before_root"], oldest["epoch"])
        step = transaction.accept_gap(place.link.connection, place.target, position, after)
        await place.link.run(step)
        self._gate.clear()
        self._log.warning("gap_accepted", first_seq=gap.first_seq, last_seq=last_seq)
        self._board.add("flush", "gaps_total", 1)

    async def _stop_at_gap(self, place: Place, position: Position, gap: Gap) -> None:
        """Wait before numbers that the log lost; then look again, for they may have come back."""
        what = (
            f"events {gap} cannot be read from the log ({gap.reason}): delivery stops before them"
        )
        next_step = (
            "Run `certeus log check`. Put the segment back from a copy, if there is one; or write"
            f" the range off by `certeus gap accept {gap}`: it is then named in certeus.gaps. New"
            " events stay durable meanwhile."
        )
        self._delivered()
        self._gate.show(gap)
        if self._reasons.begin(gap.code, what, next_step):
            self._log.error("flusher_at_gap", first_seq=gap.first_seq, last_seq=gap.last_seq)
        await self._wait_at_gate(place)
        self._batches.begin(position)

    async def _wait_at_gate(self, place: Place) -> None:
        """Wait for an acceptance, but look again now and then; raises when the connection ends."""
        loop = asyncio.get_running_loop()
        until = loop.time() + self._settings.recheck_s
        pause_s = min(self._settings.housekeeping_s, self._settings.recheck_s)
        while not self._gate.is_open and not self._draining.is_set() and loop.time() < until:
            await self._sleep(place.link, pause_s)
            await self._housekeep(place)

    async def _deliver(self, place: Place, position: Position) -> None:
        self._batches.begin(position)
        while await self._room.wait(lambda: self._idle(place), self._draining.is_set):
            batch = await self._batches.take()
            if batch is None:
                self._delivered()
                await self._wait_for_events(place)
                continue
            gap = gate.stop_of(batch.gaps)
            if gap is not None and not self._gate.is_accepted(gap):
                await self._stop_at_gap(place, position, gap)
            elif self._is_behind(batch, self._settings.postgres.batch_rows_max):
                self._batches.put_back(batch)
                position = await self._catch_up(place, position)
            else:
                position = await self._commit(place, batch, Turn.now(position))
                if not self._is_behind(batch, self._settings.behind_rows()):
                    await self._wait_for_events(place)

    def _is_behind(self, batch: Batch, rows: int) -> bool:
        """Whether more than so many rows wait behind a batch with which nothing is the matter."""
        well = not self._guard.is_probing and gate.stop_of(batch.gaps) is None
        return well and self._batches.is_more_than(rows, batch)

    async def _catch_up(self, place: Place, position: Position) -> Position:
        """Deliver over two connections until the tail of the log is near."""
        behind = True

        async def take() -> Batch | None:
            nonlocal behind
            if not behind or self._draining.is_set() or self._room.is_low():
                return None
            batch = await self._batches.take()
            if batch is not None and gate.stop_of(batch.gaps) is not None:
                self._batches.put_back(batch)
                return None
            behind = batch is not None and self._is_behind(batch, self._settings.behind_rows())
            return batch

        async def deliver(link: Link, batch: Batch, turn: Turn) -> Position:
            return await self._commit(place._replace(link=link), batch, turn)

        with self._second.watched():
            links = await self._second.beside(place.link, place.log_uuid)
            return await Lanes(take, deliver).run(links, position)

    async def _commit(self, place: Place, batch: Batch, turn: Turn) -> Position:
        link = place.link
        started_ns = time.monotonic_ns()
        rate = self._settings.dead_letter_rate(self._letters_accepted_seq)
        if batch.rows:
            await self._leaves.need(link, batch.day)
        step = transaction.store(link.connection, place.target, turn, batch, link.moved, rate)
        try:
            after, refused = await link.run(step)
        except DESTINATION_ERRORS as error:
            self.pace.failed(error)
            raise
        self.pace.done()
        counting.count(self._board, batch, refused, started_ns)
        self._delivered()
        if refused:
            self._log.error("rows_refused", first_seq=batch.first_seq, rows=refused)
            await self._look_at_dead_letters(place)
        for first_seq, last_seq, reason in batch.gaps:
            self._log.error("gap_stored", first_seq=first_seq, last_seq=last_seq, reason=reason)
        if gate.stop_of(batch.gaps) is not None:
            self._gate.clear()
            self._reasons.end(gate.CODE_LOG_GAP)
        self._position = after
        self._confirmed.publish(place.log_uuid, after, batch.segment_no)
        if not self._progressed:
            self._progressed = True
            self._tell(Progress())
        await self._confirmed.sync()
        return after

    async def _look_at_dead_letters(self, place: Place) -> None:
        connection, log_id = place.link.connection, place.target.log_id
        count = await place.link.run(dead_letters.count(connection, log_id))
        self._looked_at = time.monotonic()
        self.show_dead_letters(count)

    def show_dead_letters(self, count: int) -> None:
        """Tell that there are so many now, or none any more."""
        dead_letters.show(self._reasons, count)

    async def _wait_for_events(self, place: Place) -> None:
        """Sleep until there is something, then until the tick or until a batch is full."""
        link, wanted = place.link, self._reader.next_seq
        if self._reader.stalled is not None:
            await self._idle(place)
        while self._page.want(wanted) < wanted and not self._draining.is_set():
            await self._idle(place)
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

    async def _idle(self, place: Place) -> None:
        await self._sleep(place.link, self._settings.housekeeping_s)
        await self._housekeep(place)

    async def _housekeep(self, place: Place) -> None:
        self._board.set("flush", "heartbeat_ns", time.monotonic_ns())
        await self._confirmed.sync()
        await self._leaves.look_after(place.link)
        if time.monotonic() - self._looked_at >= self._settings.look_s:
            await self._look_at_position(place)
            await self._look_at_dead_letters(place)

    async def _look_at_position(self, place: Place) -> None:
        """Find out that PostgreSQL went back behind a pooler that kept our connection.

        Raises:
            PositionLostError: it is not where our last batch left it.
        """
        step = transaction.look_at_position(place.link.connection, place.target.log_id)
        found = await place.link.run(step)
        if self._position is not None and found != self._position:
            raise PositionLostError(f"the flush position is {found}, not {self._position}")
