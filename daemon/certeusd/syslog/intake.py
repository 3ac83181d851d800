"""Turns of reading, and what was read until it is settled.

Whoever has the turn reads, encodes and appends with nothing in between, so a process that dies has
at most one block that is in no ring; what is in the ring is the worker's, which forwards it
although its producer is dead. A block is forgotten when it is settled and not before: should the
session end for good, the next one gets again what is held. Its verdicts are lost then, so such a
block may come twice; that is better than not at all, and it needs more than a restart of anything.
"""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass

from certeus.errors import ConnectError, Error
from certeusd._native import DoorEncoder, Encoded
from certeusd.door import Door, event_bytes_max, ring_bytes
from certeusd.door_process import DoorProcess
from certeusd.syslog.senders import SOURCE

HELD_BYTES_MAX = 1024 * 1024
"""Bytes of payloads that are not settled, before the last block: a quarter of the ring or less."""
FOREVER_S = 86_400.0 * 365
AGAIN_S = 0.1
OPEN_TIMEOUT_S = 2.0
NOT_ALLOWED, TOO_LARGE, NO_FRAME = "not-allowed", "too-large", "frame-length"


@dataclass(slots=True)
class Block:
    """What one turn has read."""

    payloads: bytes
    last: int | None = None
    """Its last ticket; None: it is not in the ring of this session."""


class Intake:
    """One producer for all that comes in."""

    def __init__(self, process: DoorProcess) -> None:
        limits = process.config.limits
        self._process = process
        self._ring_bytes = ring_bytes(limits)
        self.data_bytes_max = event_bytes_max(limits, self._ring_bytes)
        self.encoder = DoorEncoder(self.data_bytes_max, SOURCE, [f"{SOURCE}/*"])
        self._door: Door | None = None
        self._held: deque[Block] = deque()
        self._held_bytes = 0
        self._turn = asyncio.Lock()
        self._appending = asyncio.Lock()
        self._has_room = asyncio.Event()
        self._has_blocks = asyncio.Event()
        self.refused: Counter[str] = Counter()
        """By reason, for whoever tells it."""

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncGenerator[None]:
        """Have the turn, in the order of asking, when there is room."""
        async with self._turn:
            await self._has_room.wait()
            yield

    def refuse(self, reason: str, count: int = 1) -> None:
        """Count what cannot be taken."""
        self.refused[reason] += count
        self._process.count("refused_total", count)

    async def take(self, parts: Iterable[Encoded]) -> None:
        """Hold what was read in this turn, and hand it over."""
        events, payloads = 0, list[bytes]()
        for part in parts:
            events += part.count
            payloads.append(part.payloads)
            for _, reason in part.refused:
                self.refuse(reason)
        if not events:
            return
        block = Block(b"".join(payloads))
        self._held.append(block)
        self._held_bytes += len(block.payloads)
        self._has_blocks.set()
        self._look_for_room()
        async with self._appending:
            with contextlib.suppress(Error):  # `run` goes on with another session.
                await self._append(block)
        self._process.count("events_total", events)
        self._process.count("bytes_total", len(block.payloads))

    async def run(self) -> None:
        """Settle what is held, through as many sessions as that takes."""
        while True:
            with contextlib.suppress(Error):
                async with self._appending:
                    await self._begin()
                await self._settle()
            self._process.logger.warning("syslog_session_ended", held_bytes=self._held_bytes)
            await asyncio.sleep(AGAIN_S)

    async def _begin(self) -> None:
        if self._door is not None:
            await self._door.close(0.0)
            for block in self._held:
                block.last = None
        self._door = await self._open()
        for block in self._held:
            await self._append(block)
        self._look_for_room()

    async def _open(self) -> Door:
        process = self._process
        while True:
            try:
                door = await Door.open(
                    process.private_socket, SOURCE,
                    ring_bytes=self._ring_bytes, timeout_s=OPEN_TIMEOUT_S,
                )  # fmt: skip
            except ConnectError as error:
                process.logger.warning("syslog_not_connected", error=str(error))
                await asyncio.sleep(AGAIN_S)
            else:
                process.ready()
                return door

    async def _append(self, block: Block) -> None:
        assert self._door is not None, "nobody has a turn before there is a session"
        block.last = (await self._door.append(block.payloads, FOREVER_S))[-1]

    async def _settle(self) -> None:
        """Forget what is settled, until the session has ended."""
        door = self._door
        assert door is not None, "it begins with a session"
        while True:
            await self._has_blocks.wait()
            block = self._held[0]
            if block.last is None:
                async with self._appending:
                    pass
            if block.last is None:
                return
            await door.settled(block.last, FOREVER_S)
            self._forget(door.settled_ticket)

    def _forget(self, settled: int) -> None:
        while self._held and (last := self._held[0].last) is not None and last <= settled:
            self._held_bytes -= len(self._held.popleft().payloads)
        if not self._held:
            self._has_blocks.clear()
        self._look_for_room()
        self._process.progressed()

    def _look_for_room(self) -> None:
        if self._door is not None and self._held_bytes < HELD_BYTES_MAX:
            self._has_room.set()
        else:
            self._has_room.clear()

    async def close(self, timeout_s: float) -> None:
        """Settle what is held and say goodbye; `run` has ended before."""
        if self._door is not None:
            await self._door.close(timeout_s)
            self._forget(self._door.settled_ticket)
        if self._held:
            self._process.logger.warning("syslog_not_all_settled", held_bytes=self._held_bytes)
