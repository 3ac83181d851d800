"""What every door's process does besides its format: begin, show that it lives, end in order.

It is a child as the others are (`channel.py`): it dies with the supervisor, and ends at `Drain` by
taking nothing more, settling what it has, and exit 0.
"""

import argparse
import asyncio
import contextlib
import os
import resource
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from certeusd import doors, logs
from certeusd.board import Board
from certeusd.channel import Channel, Drain, Level, Progress, Ready, Role, Start, State, adopt
from certeusd.config import Config
from certeusd.paths import Paths
from certeusd.uncaught import log_uncaught

BEAT_S = 1.0


@dataclass
class DoorProcess:
    """What a door has of the supervisor."""

    role: Role
    start: Start
    board: Board
    listeners: list[socket.socket]
    """Owned by the door; not blocking."""
    logger: logs.Logger
    channel: Channel
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    _told: set[str] = field(default_factory=set[str])
    _progressed: bool = False

    @property
    def config(self) -> Config:
        """The effective configuration."""
        return self.start.config

    @property
    def paths(self) -> Paths:
        """The daemon's directories."""
        return Paths(Path(self.start.state_dir), Path(self.start.runtime_dir))

    @property
    def private_socket(self) -> Path:
        """Where this door's producers say hello."""
        return doors.private_path(self.paths.runtime_dir, self.role)

    @property
    def drain_timeout_s(self) -> float:
        """How long to settle at the end."""
        return self.config.supervisor.drain_timeout_ms / 1000

    def count(self, field: str, count: int = 1) -> None:
        """Count on the door's page of the board."""
        self.board.add(self.role, field, count)

    def gauge(self, field: str, value: int) -> None:
        """Show a number on the door's page of the board."""
        self.board.set(self.role, field, value)

    def tell(self, code: str, what: str, next: str = "") -> None:
        """Tell a reason for `degraded`; an empty `what` takes it back. Once an edge."""
        if what and code not in self._told:
            self._told.add(code)
            self.channel.send(State(code, what, next))
        elif not what and code in self._told:
            self._told.discard(code)
            self.channel.send(State(code, active=False))

    def ready(self) -> None:
        """Tell that it takes clients."""
        self.channel.send(Ready())

    def progressed(self) -> None:
        """Tell that this life was of use; only the first time counts."""
        if not self._progressed:
            self._progressed = True
            self.channel.send(Progress())


def run(role: Role, serve: Callable[[DoorProcess], Awaitable[None]]) -> int:
    """The whole life of a door's process; `serve` returns some time after `draining` is set."""
    parser = argparse.ArgumentParser(prog=f"certeusd.{role}")
    parser.add_argument("--channel", type=int, required=True, metavar="FD")
    channel = adopt(parser.parse_args().channel)
    received = channel.receive()
    if received is None:
        return 0
    start, (board_fd, *listening) = received
    assert isinstance(start, Start), f"first came {type(start).__name__}, not Start"
    board = Board(board_fd)
    os.close(board_fd)
    logger = logs.configure(
        role, level=start.log_level, on_dropped=lambda: board.count_dropped_line(role)
    )
    log_uncaught(logger)
    _raise_file_limit()
    listeners = [socket.socket(fileno=descriptor) for descriptor in listening]
    for listener in listeners:
        listener.setblocking(False)
    uvloop.run(_live(DoorProcess(role, start, board, listeners, logger, channel), serve))
    return 0


async def _live(process: DoorProcess, serve: Callable[[DoorProcess], Awaitable[None]]) -> None:
    loop = asyncio.get_running_loop()
    process.channel.setblocking(False)
    loop.add_reader(process.channel.fileno(), _on_message, process)
    beating = loop.create_task(_beat(process))
    try:
        await serve(process)
    finally:
        beating.cancel()
        loop.remove_reader(process.channel.fileno())


def _on_message(process: DoorProcess) -> None:
    with contextlib.suppress(BlockingIOError):
        received = process.channel.receive()
        match None if received is None else received[0]:
            case None:
                os._exit(0)  # The supervisor is gone; what is not settled its peer still has.
            case Drain():
                process.draining.set()
            case Level() as level:
                logs.set_level(level.level)
            case other:
                raise AssertionError(f"a message that is not for a door: {other!r}")


async def _beat(process: DoorProcess) -> None:
    while True:
        process.gauge("heartbeat_ns", time.monotonic_ns())
        await asyncio.sleep(BEAT_S)


def _raise_file_limit() -> None:
    """A connection is a descriptor: take as many as the service may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
