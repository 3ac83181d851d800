"""A proxy in front of PostgreSQL's socket that cuts connections at chosen bytes."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

CHUNK_BYTES = 16 * 1024


class CuttingProxy:
    """Forwards both ways; `limits(n)` gives connection n its bytes to and from the server."""

    def __init__(self, server_socket: str, limits: Callable[[int], tuple[int, int] | None]) -> None:
        self._server_socket = server_socket
        self._limits = limits
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.cuts = 0

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        limits = self._limits(self.connections)
        self.connections += 1
        to_server, from_server = limits or (None, None)
        ends = [writer]
        pumps: set[asyncio.Task[None]] = set()
        try:
            upstream = await asyncio.open_unix_connection(self._server_socket)
            ends.append(upstream[1])
            pumps = {
                asyncio.create_task(self._pump(reader, upstream[1], to_server)),
                asyncio.create_task(self._pump(upstream[0], writer, from_server)),
            }
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        except OSError:
            return
        finally:
            for pump in pumps:
                pump.cancel()
            for end in ends:
                end.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None
    ) -> None:
        with contextlib.suppress(OSError):
            while chunk := await reader.read(CHUNK_BYTES):
                if limit is not None and len(chunk) >= limit:
                    writer.write(chunk[:limit])
                    await writer.drain()
                    self.cuts += 1
                    return
                limit = None if limit is None else limit - len(chunk)
                writer.write(chunk)
                await writer.drain()

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
            await asyncio.gather(*self._tasks, return_exceptions=True)
