"""Waiting for something to read, until the process drains."""

import asyncio
import socket
import time


class Readiness:
    """Which sockets have something; all of them, once it has ended."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, asyncio.Future[None]] = {}
        self._until: float | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing is to be waited for any more."""
        return self._until is not None

    @property
    def over(self) -> bool:
        """Whether not even what is there is to be read."""
        return self._until is not None and time.monotonic() >= self._until

    async def of(self, end: socket.socket) -> None:
        """Return when there may be something, or it has ended."""
        if self.ended:
            return
        descriptor = end.fileno()
        ready = self._waiting[descriptor] = self._loop.create_future()
        self._loop.add_reader(descriptor, _wake, ready)
        try:
            await ready
        finally:
            self._loop.remove_reader(descriptor)
            del self._waiting[descriptor]

    def end(self, within_s: float) -> None:
        """Wake all: what is there is to be read within so many seconds."""
        self._until = time.monotonic() + within_s
        for ready in self._waiting.values():
            _wake(ready)


def _wake(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
