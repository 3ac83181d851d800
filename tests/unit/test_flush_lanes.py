"""Two transactions on their way at once: committed in the log's order, or given up together."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest

from certeusd.config import PostgresSection
from certeusd.flush import lanes
from certeusd.flush.connection import Link
from certeusd.flush.errors import BlockedError
from certeusd.flush.lanes import Lanes, Turn
from certeusd.flush.position import Position
from certeusd.flush.second import Second
from certeusd.flush.settings import Settings
from certeusd.flush.types import Connection
from certeusd.log.reader import Batch
from support.flushing import quiet_logger, wait_until

START = Position(0, 0, bytes(32), 0)


class FakeConnection:
    def __init__(self, pid: int, blocks: bool = False) -> None:
        self.pid = pid
        self.blocks = blocks
        self.asked: list[int] = []

    def get_server_pid(self) -> int:
        return self.pid

    async def fetchval(self, _: str, pid: int) -> bool:
        self.asked.append(pid)
        return self.blocks


class FakeLink:
    def __init__(self, pid: int, blocks: bool = False) -> None:
        self.connection = FakeConnection(pid, blocks)


class World:
    """Batches that are numbers, and what happened to them in which order."""

    def __init__(self, count: int) -> None:
        self.left = list(range(1, count + 1))
        self.sent: list[tuple[int, int]] = []
        self.committed: list[int] = []
        self.ready: dict[int, asyncio.Event] = {}
        self.failing: int | None = None

    async def take(self) -> Batch | None:
        return cast(Batch, self.left.pop(0)) if self.left else None

    async def deliver(self, link: Link, batch: Batch, turn: Turn) -> Position:
        number = cast(int, batch)
        self.sent.append((link.connection.get_server_pid(), number))
        if number in self.ready:
            await self.ready[number].wait()
        if number == self.failing:
            raise ConnectionResetError
        before = await turn.wait(link.connection, lambda: None)
        assert before.seq == number - 1
        self.committed.append(number)
        return before._replace(seq=number)

    async def run(self, *links: FakeLink) -> Position:
        given = [cast(Link, link) for link in links]
        return await Lanes(self.take, self.deliver).run(given, START)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(20):
            await test()

    asyncio.run(limited())


def test_batches_commit_in_the_order_of_the_log_whichever_is_ready_first() -> None:
    async def check() -> None:
        world = World(9)
        world.ready = {1: asyncio.Event(), 4: asyncio.Event()}
        delivered = asyncio.ensure_future(world.run(FakeLink(1), FakeLink(2)))
        await wait_until(lambda: len(world.sent) >= 2, "they come")
        assert world.sent == [(1, 1), (2, 2)]
        assert world.committed == []
        world.ready[1].set()
        await wait_until(lambda: len(world.committed) >= 3, "they come")
        world.ready[4].set()
        assert (await delivered).seq == 9
        assert world.committed == list(range(1, 10))
        assert {pid for pid, _ in world.sent} == {1, 2}

    run(check)


def test_nothing_behind_a_batch_that_failed_is_committed() -> None:
    async def check() -> None:
        world = World(9)
        world.failing = 3
        with pytest.raises(ConnectionResetError):
            await world.run(FakeLink(1), FakeLink(2))
        assert world.committed == [1, 2]
        assert max(number for _, number in world.sent) <= 4

    run(check)


def test_one_connection_alone_delivers_all() -> None:
    async def check() -> None:
        world = World(3)
        assert (await world.run(FakeLink(1))).seq == 3
        assert world.committed == [1, 2, 3]

    run(check)


def test_a_transaction_that_blocks_the_one_before_it_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def check() -> None:
        monkeypatch.setattr(lanes, "LOOK_INTERVAL_S", 0.001)
        world = World(2)
        world.ready = {1: asyncio.Event()}
        second = FakeLink(2, blocks=True)
        with pytest.raises(BlockedError):
            await world.run(FakeLink(1), second)
        assert second.connection.asked == [1]
        assert world.committed == []

    run(check)


def test_who_waits_without_blocking_goes_on_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    async def check() -> None:
        monkeypatch.setattr(lanes, "LOOK_INTERVAL_S", 0.001)
        moves: list[int] = []
        before: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        ours, sender = FakeConnection(2), FakeConnection(1)
        turn = Turn(before, cast(Connection, sender))
        waiting = turn.wait(cast(Connection, ours), lambda: moves.append(1))
        waiter = asyncio.ensure_future(waiting)
        await wait_until(lambda: len(moves) >= 3, "they come")
        before.set_result(START)
        assert await waiter == START

    run(check)


def test_a_server_without_room_for_a_second_connection_is_served_over_one(tmp_path: Path) -> None:
    async def check() -> None:
        settings = Settings(
            dsn=f"postgresql://certeus@/certeus?host={tmp_path}",
            postgres=PostgresSection(),
            log_dir=tmp_path,
            followers_dir=tmp_path,
        )
        second = Second(settings, quiet_logger())
        first = cast(Link, FakeLink(1))
        assert await second.beside(first, uuid.uuid4()) == [first]

    run(check)
