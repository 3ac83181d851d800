"""A proxy in front of PostgreSQL's socket that cuts within one transaction's traffic, to the byte.

The window of a connection opens with its first BEGIN. From there on each direction counts its own
bytes, and the connection ends when the chosen direction has passed the chosen number of them.
"""

import asyncio
import collections
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Literal, NamedTuple

from support.cutting_proxy import CHUNK_BYTES

BEGIN = b"BEGIN"
MESSAGE_HEAD_BYTES = 5


class Cut(NamedTuple):
    """Where one connection ends: behind so many bytes of a direction, counted from BEGIN on."""

    direction: Literal["to", "from"]
    offset: int


class Window:
    """What one connection has passed since its BEGIN."""

    def __init__(self, cut: Cut | None) -> None:
        self.cut = cut
        self.is_open = False
        self.is_struck = False
        self.passed = {"to": 0, "from": 0}

    def room(self, direction: Literal["to", "from"]) -> int | None:
        """Bytes that may still pass; None: all."""
        if not self.is_open or self.cut is None or self.cut.direction != direction:
            return None
        return self.cut.offset - self.passed[direction]


class WindowProxy:
    """Each connection is cut at the next of `cuts`, and at none when there are no more.

    A connection that ends before its cut gives it back. `before` is awaited before each connection.
    """

    def __init__(
        self, server_socket: str, cuts: Iterable[Cut], before: Callable[[], Awaitable[None]]
    ) -> None:
        self._server_socket = server_socket
        self._cuts = collections.deque(cuts)
        self._before = before
        self._tasks: set[asyncio.Task[None]] = set()
        self.windows: list[Window] = []
        self.struck: list[Cut] = []

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._before()
        window = Window(self._cuts.popleft() if self._cuts else None)
        self.windows.append(window)
        up_reader, up_writer = await asyncio.open_unix_connection(self._server_socket)
        pumps = {
            asyncio.create_task(self._pump(window, "to", reader, up_writer)),
            asyncio.create_task(self._pump(window, "from", up_reader, writer)),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            if window.cut is not None and not window.is_struck:
                self._cuts.appendleft(window.cut)
            for end in (up_writer, writer):
                end.transport.abort()

    async def _pump(
        self,
        window: Window,
        direction: Literal["to", "from"],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(CHUNK_BYTES):
                outside = 0
                if direction == "to" and not window.is_open and BEGIN in chunk:
                    outside = chunk.index(BEGIN) - MESSAGE_HEAD_BYTES
                    window.is_open = True
                room = window.room(direction)
                passed = len(chunk) if room is None else min(len(chunk), outside + room)
                writer.write(chunk[:passed])
                await writer.drain()
                if window.is_open:
                    window.passed[direction] += passed - outside
                if window.room(direction) == 0:
                    assert window.cut is not None
                    window.is_struck = True
                    self.struck.append(window.cut)
                    return

    @contextlib.asynccontextmanager
    async def listening(self, folder: Path) -> AsyncGenerator[str]:
        """Listens in `folder`, and yields the DSN's host for it."""

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._connected(reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        listener = await asyncio.start_unix_server(connected, folder / ".s.PGSQL.5432")
        try:
            yield str(folder)
        finally:
            listener.close()
            for task in list(self._tasks):
                task.cancel()
            failed = await asyncio.gather(*self._tasks, return_exceptions=True)
            for error in failed:
                if isinstance(error, AssertionError):
                    raise error
