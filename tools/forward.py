"""A loopback port that leads to a Unix socket, as `ssh -L PORT:SOCKET` makes one."""

import asyncio
import contextlib
import threading
from collections.abc import Generator
from pathlib import Path

READ_BYTES = 64 * 1024


@contextlib.contextmanager
def forwarded(socket_path: Path) -> Generator[str]:
    """Lead a free port there; yields its URL, without a slash at the end."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    forward = _Forward(socket_path)
    port = asyncio.run_coroutine_threadsafe(forward.start(), loop).result(10)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(forward.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


class _Forward:
    def __init__(self, socket_path: Path) -> None:
        self._path = socket_path
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def stop(self) -> None:
        assert self._server is not None, "it was started"
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "a server's callback is a task"
        self._tasks.add(task)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            there = await asyncio.open_unix_connection(str(self._path))
            ways = [
                asyncio.ensure_future(_copy(reader, there[1])),
                asyncio.ensure_future(_copy(there[0], writer)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
                there[1].close()
        writer.close()
        self._tasks.discard(task)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while part := await reader.read(READ_BYTES):
            writer.write(part)
            await writer.drain()
