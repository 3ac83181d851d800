"""A flusher, its log, a real PostgreSQL, and the model of what must be there.

The event loop runs only while a step runs it, so a step is one after the other, and between two of
them the flusher stands still, wherever it happens to be.
"""

import asyncio
import shutil
import tempfile
import uuid
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

import asyncpg

from certeusd.channel import Report
from certeusd.config import PostgresSection
from certeusd.flush import schema
from certeusd.flush.breaker import Pause
from certeusd.flush.flusher import Flusher
from certeusd.flush.settings import Settings
from support.cutting_proxy import CuttingProxy
from support.flushing import NOON_NS, WAIT_S, Rig, quiet_logger
from support.postgres import Server

Result = TypeVar("Result")
POISON = "poison"
REFUSE_POISON = "ALTER TABLE certeus.events ADD CONSTRAINT sane CHECK (type <> 'poison')"
POSITION = "SELECT epoch, group_no, seq, root FROM certeus.flush_position WHERE log_id = $1"
FOUND = """
SELECT coalesce((SELECT seq FROM certeus.flush_position WHERE log_id = $1), 0) AS position,
       ARRAY(SELECT seq FROM certeus.events WHERE log_id = $1 ORDER BY seq) AS events,
       ARRAY(SELECT data->>'n' FROM certeus.events WHERE log_id = $1 ORDER BY seq) AS data,
       ARRAY(SELECT seq FROM certeus.dead_letters WHERE log_id = $1 ORDER BY seq) AS letters,
       ARRAY(SELECT ARRAY[first_seq, last_seq] FROM certeus.gaps WHERE log_id = $1
             ORDER BY first_seq) AS gaps
"""
REWIND = (
    "DELETE FROM certeus.events WHERE log_id = $1 AND seq > $2",
    "DELETE FROM certeus.dead_letters WHERE log_id = $1 AND seq > $2",
    "DELETE FROM certeus.gaps WHERE log_id = $1 AND first_seq > $2",
)
TERMINATE = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1"
)


class World:
    """One log and everything that can happen to its delivery."""

    def __init__(
        self,
        server: Server,
        admin: "asyncpg.Connection[asyncpg.Record]",
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.admin, self.loop = admin, loop
        self.folder = Path(tempfile.mkdtemp(prefix="certeus-", dir="/tmp"))
        self.rig = Rig(self.folder / "state", uuid.uuid4())
        self.numbers: dict[int, int] = {}
        """Data of each seq that was logged."""
        self.poisoned: set[int] = set()
        self.snapshots: list[tuple[int, int, int, bytes]] = []
        self.log_id = 0
        self.limits: tuple[int, int] | None = None
        self.proxy = CuttingProxy(server.socket_path(), self._take_limits)
        self._listening = self.proxy.listening(self.folder)
        self.run(self._listening.__aenter__())
        self.flusher: Flusher | None = None
        self.task: asyncio.Task[None] | None = None
        self.rig.begin()

    def _take_limits(self, _: int) -> tuple[int, int] | None:
        limits, self.limits = self.limits, None
        return limits

    def run(self, step: Awaitable[Result]) -> Result:
        """Let everything go on until `step` is done."""
        return self.loop.run_until_complete(step)

    def let_go_on(self, seconds: float) -> None:
        """Let the flusher work for a moment, then stand still wherever it is."""
        self.run(asyncio.sleep(seconds))

    # --- the log --------------------------------------------------------------------------------

    def append(self, kinds: list[bool]) -> None:
        """One group; True is an event that PostgreSQL refuses."""
        first = self.rig.log.next_seq
        for at, poison in enumerate(kinds):
            self.rig.ticket += 1
            event_type = POISON if poison else "tick"
            self.rig.log.record(1, self.rig.ticket, event_type, b'{"n":%d}' % self.rig.ticket)
            self.numbers[first + at] = self.rig.ticket
            if poison:
                self.poisoned.add(first + at)
        self.rig.log.commit(NOON_NS)
        self.rig.durable()

    def segment(self, lost: int) -> None:
        """The log writer starts again, or has lost the next numbers."""
        if lost:
            self.rig.log.segment(before_next_seq=self.rig.log.next_seq + lost)
        else:
            self.rig.log.segment(copy_last=bool(self.numbers))
        self.rig.log.producer(1, "default", "check")

    def trim(self) -> int:
        """As the log writer does: what is below the word on the board goes."""
        below = self.rig.board.get("follower", "trim_segment")
        segments = sorted(self.rig.log_dir.glob("*.log"))[:-1]
        gone = [path for path in segments if int(path.stem) < below]
        for path in gone:
            path.unlink()
        return len(gone)

    # --- the flusher ----------------------------------------------------------------------------

    def start(self) -> None:
        settings = Settings(
            dsn=f"postgresql://postgres@/postgres?host={self.folder}",
            postgres=PostgresSection(batch_rows_max=7, batch_ms=1, dead_letters_percent_max=100.0),
            log_dir=self.rig.log_dir,
            followers_dir=self.rig.state_dir / "followers",
            recheck_s=0.01,
            housekeeping_s=0.02,
            look_s=0.05,
            away_pause=Pause(0.0005, 0.002),
            refused_pause=Pause(0.0005, 0.002),
            stall_timeout_s=5.0,
        )
        rig = self.rig
        self.flusher = Flusher(
            settings, rig.board_fd, rig.bell, rig.messages.append, quiet_logger(), lambda: 0.5
        )
        self.task = self.loop.create_task(self.flusher.run())

    def stop(self, *, drain: bool) -> None:
        """End it as SIGTERM does, or drop it where it stands."""
        assert self.task is not None
        assert self.flusher is not None
        if drain:
            self.flusher.drain()
        else:
            self.task.cancel()
        done, _ = self.run(asyncio.wait({self.task}, timeout=WAIT_S))
        assert done, "the flusher ends when it is told to"
        if not self.task.cancelled():
            self.task.result()
        self.flusher = self.task = None

    def gap_shown(self) -> tuple[int, int] | None:
        """The range at which it is stopped, as its newest report says."""
        for message in reversed(self.rig.messages):
            if isinstance(message, Report) and message.kind == "gap":
                told = message.data
                return (int(str(told["first_seq"])), int(str(told["last_seq"]))) if told else None
        return None

    def settle(self) -> None:
        """Let it deliver all that is durable, accepting every gap that it shows."""

        async def until_there() -> None:
            wanted = self.rig.board.get("durability", "durable_seq")
            async with asyncio.timeout(WAIT_S):
                while (await self.found())["position"] < wanted:
                    gap = self.gap_shown()
                    if gap is not None and self.flusher is not None:
                        self.flusher.accept_gap(*gap)
                    await asyncio.sleep(0.003)

        try:
            self.run(until_there())
        except TimeoutError:
            raise AssertionError(f"it does not get there: {self.in_words()}") from None

    def in_words(self) -> str:
        """Where everything is, for whoever has to find out why it stays there."""
        rig = self.rig
        told = [repr(message) for message in rig.messages[-12:]]
        board = dict(rig.board.items("durability")) | dict(rig.board.items("follower"))
        segments = sorted(path.name for path in rig.log_dir.iterdir())
        found = dict(self.run(self.found()))
        place = {name: found[name] for name in ("position", "gaps")}
        stack = [] if self.task is None else self.task.get_stack()
        return "\n".join([str(board), str(segments), str(place), str(stack), *told])

    # --- PostgreSQL -----------------------------------------------------------------------------

    async def found(self) -> "asyncpg.Record":
        """Everything of this log, in one snapshot."""
        if not self.log_id:
            query = "SELECT log_id FROM certeus.logs WHERE uuid = $1"
            self.log_id = await self.admin.fetchval(query, self.rig.uuid) or 0
        row = await self.admin.fetchrow(FOUND, self.log_id)
        assert row is not None
        return row

    def kill_backend(self) -> int:
        return int(self.run(self.admin.fetchval(TERMINATE, f"certeus:{self.rig.uuid}")))

    def take_snapshot(self) -> None:
        self.run(self.found())
        row = self.run(self.admin.fetchrow(POSITION, self.log_id))
        if row is not None:
            self.snapshots.append((row["epoch"], row["group_no"], row["seq"], row["root"]))

    def rewind(self, to: tuple[int, int, int, bytes]) -> bool:
        """PostgreSQL is put back to an earlier state, whole, at one moment; if it is earlier."""

        async def put_back() -> bool:
            async with self.admin.transaction():
                # Its row lock: what is under way is over, and meets another position.
                now = await self.admin.fetchrow(POSITION + " FOR UPDATE", self.log_id)
                if now is None or now["seq"] <= to[2]:
                    return False
                for statement in REWIND:
                    await self.admin.execute(statement, self.log_id, to[2])
                await self.admin.execute(
                    "UPDATE certeus.flush_position SET epoch = $2, group_no = $3, seq = $4,"
                    " root = $5 WHERE log_id = $1",
                    self.log_id, *to,
                )  # fmt: skip
                return True

        if not self.run(put_back()):
            return False
        # What came after it is no past of this server any more.
        self.snapshots = [snapshot for snapshot in self.snapshots if snapshot[2] <= to[2]]
        return True

    def check(self) -> None:
        """events, dead_letters and gaps are the log up to the position: each once, in order."""
        found = self.run(self.found())
        position = found["position"]
        gaps = [seq for first, last in found["gaps"] for seq in range(first, last + 1)]
        everything = sorted([*found["events"], *found["letters"], *gaps])
        expected = set(range(1, position + 1))
        twice = sorted({seq for seq in everything if everything.count(seq) > 1})
        told = f"missing {sorted(expected - set(everything))}, twice {twice}"
        told += f", beyond {sorted(set(everything) - expected)}; position {position}; {gaps=}"
        assert everything == sorted(expected), told
        assert [int(n) for n in found["data"]] == [self.numbers[seq] for seq in found["events"]]
        assert set(found["letters"]) == self.poisoned & set(range(1, position + 1)) - set(gaps)
        assert position <= self.rig.board.get("durability", "durable_seq")

    def close(self) -> None:
        if self.task is not None:
            self.stop(drain=False)
        self.run(self._listening.__aexit__(None, None, None))
        self.rig.close()
        shutil.rmtree(self.folder)


async def prepare(dsn: str) -> "asyncpg.Connection[asyncpg.Record]":
    """A connection to a database with the schema, where poison is refused."""
    admin = await asyncpg.connect(dsn)
    await admin.execute(schema.ddl())
    await admin.execute(REFUSE_POISON)
    return admin
