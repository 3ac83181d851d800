"""The api's front alone, in a thread: real sockets and connections, a handler of the test's."""

import asyncio
import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Coroutine, Generator
from pathlib import Path
from typing import Any, TypeVar

import uvloop

from certeusd import logs
from certeusd.api.connections import Connection, Connections, Handle
from certeusd.api.listening import Acceptor
from certeusd.api.peers import Caller
from certeusd.api.slots import Slots

WAIT_S = 20.0
_T = TypeVar("_T")


class Front:
    """What serves at `path`; whoever connects is `name`."""

    def __init__(self, path: Path, loop: asyncio.AbstractEventLoop) -> None:
        self.path = path
        self.name = "uid:1"
        self.counted: Counter[str] = Counter()
        self.loop = loop
        self.connections: Connections
        self.acceptor: Acceptor

    def admit(self, _: socket.socket) -> Connection | None:
        return self.connections.admit(Caller(self.name, None, appends=True, reads=True))

    def call(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run something in the front's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(WAIT_S)

    async def sweep(self, now: float) -> None:
        self.connections.sweep(now)

    def connected(self, name: str | None = None) -> socket.socket:
        """A connection, as another peer from now on where one is named."""
        self.name = name or self.name
        end = socket.socket(socket.AF_UNIX)
        end.settimeout(WAIT_S)
        end.connect(str(self.path))
        return end

    def asked(self, request: bytes, name: str | None = None) -> bytes:
        """All that is answered to some bytes, until the connection ends."""
        with self.connected(name) as end:
            with contextlib.suppress(BrokenPipeError):  # It was turned away at once.
                end.sendall(request)
            return everything(end)


def everything(end: socket.socket) -> bytes:
    """Read until the other end closes."""
    parts = list[bytes]()
    with contextlib.suppress(ConnectionResetError):
        while part := end.recv(65536):
            parts.append(part)
    return b"".join(parts)


def get(path: str = "/", *headers: str, close: bool = True) -> bytes:
    """A request without a body."""
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", *headers]
    return "\r\n".join([*lines, *(["Connection: close"] if close else []), "", ""]).encode()


@contextlib.contextmanager
def front(root: Path, handle: Handle, slots: Slots | None = None) -> Generator[Front]:
    """Serve at a Unix socket in `root` until the end."""
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    made = Front(root / "front.sock", loop)
    listener = socket.socket(socket.AF_UNIX)
    listener.setblocking(False)
    listener.bind(str(made.path))
    listener.listen(128)

    async def begin() -> None:
        def count(field: str) -> None:
            made.counted[field] += 1

        made.connections = Connections(handle, Slots(16, 8) if slots is None else slots, count)
        made.acceptor = Acceptor(listener, made.admit, logs.get_logger())
        made.acceptor.start()

    async def end() -> None:
        made.acceptor.stop()
        await made.connections.close(0.1)

    try:
        made.call(begin())
        try:
            yield made
        finally:
            made.call(end())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        listener.close()
