"""The real process: started over a channel, drained by a message, gone with its parent."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from certeusd.board import BOARD_BYTES
from certeusd.channel import Channel, Drain, Message, Progress, Ready, Report, Start, State, pair
from certeusd.config import Config
from certeusd.flush import schema
from support.flush_process import flush_process
from support.flushing import LOCK, UNLOCK, Rig, block_at, blocked_in_copy, query, seqs, wait_until

pytestmark = pytest.mark.integration

Child = tuple[Channel, "subprocess.Popen[bytes]"]


@pytest.fixture
def child() -> Iterator[Child]:
    ours, theirs = pair()
    ours.setblocking(True)
    process = start_process(theirs)
    theirs.close()
    yield ours, process
    ours.close()
    process.kill()
    process.wait()


def start_process(end: socket.socket) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "certeusd.flush", "--channel", str(end.fileno())],
        pass_fds=[end.fileno()],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stderr=subprocess.DEVNULL,
    )


def begin(child: Child, rig: Rig, dsn: str) -> None:
    start = Start(
        role="flush",
        index=0,
        config=Config(),
        state_dir=str(rig.state_dir),
        runtime_dir=str(rig.state_dir),
        log_level="info",
        board_bytes=BOARD_BYTES,
        postgres_dsn=dsn,
    )
    child[0].send(start, [rig.board_fd, rig.bell])


def until(channel: Channel, kind: type[Message]) -> list[Message]:
    """The messages up to the first of a kind."""
    told: list[Message] = []
    while not told or not isinstance(told[-1], kind):
        received = channel.receive()
        assert received is not None, f"the process ended after {told}"
        told.append(received[0])
    return told


def test_it_delivers_and_ends_when_it_is_drained(child: Child, rig: Rig, database: str) -> None:
    channel, process = child
    rig.begin()
    rig.append(100)
    rig.durable()
    begin(child, rig, database)
    told = until(channel, Progress)
    assert isinstance(told[0], Ready)
    assert any(isinstance(one, Report) and one.kind == "postgres" for one in told)
    asyncio.run(rig.flushed())
    channel.send(Drain())
    assert process.wait(timeout=20) == 0
    assert asyncio.run(seqs(database)) == list(range(1, 101))
    assert (rig.state_dir / "followers" / "postgres").exists()


def test_it_drains_at_once_while_there_is_no_server(child: Child, rig: Rig) -> None:
    channel, process = child
    rig.begin()
    rig.append(1)
    rig.durable()
    begin(child, rig, f"postgresql://someone:secret@/x?host={rig.state_dir}")
    told = until(channel, State)
    assert isinstance(told[-1], State)
    assert told[-1].code == "postgres-away"
    assert "secret" not in told[-1].what
    channel.send(Drain())
    assert process.wait(timeout=20) == 0


def test_it_ends_with_its_channel(child: Child, rig: Rig, database: str) -> None:
    channel, process = child
    begin(child, rig, database)
    until(channel, Ready)
    channel.close()
    assert process.wait(timeout=20) == 0


@pytest.mark.timeout(300)
def test_an_orphaned_flusher_that_wakes_late_stores_nothing_twice(rig: Rig, database: str) -> None:
    rig.begin()
    for _ in range(10):
        rig.append(100)

    async def run() -> None:
        async with query(database) as connection:
            await connection.execute(schema.ddl())
            await connection.execute(block_at(500))
            await connection.execute(LOCK)
            with flush_process(rig, database) as first:
                rig.durable()
                asleep = await blocked_in_copy(connection)
                first.process.send_signal(signal.SIGSTOP)
                with flush_process(rig, database, lock_timeout_ms=500):
                    await blocked_in_copy(connection, but=asleep)
                    await connection.execute(UNLOCK)
                    await rig.flushed()
                    first.process.send_signal(signal.SIGCONT)
                    # Both are awake, and deliver the same log.
                    for _ in range(10):
                        rig.append(100)
                        rig.durable()
                        await rig.flushed()
                    await wait_until(lambda: rig.flushed_seq == 2000, "all is delivered")
        assert await seqs(database) == list(range(1, 2001))

    asyncio.run(run())
