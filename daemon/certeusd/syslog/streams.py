"""Connections: RFC 6587, each message with its length before it, or an LF or a NUL behind it.

What a connection sends waits in the kernel until it has its turn, and its peer with it. Of a
message whose end has not come only so much is kept as a message may have.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable

from certeusd._native import Encoded
from certeusd.config import SyslogSection
from certeusd.syslog.intake import NO_FRAME, Intake
from certeusd.syslog.readiness import Readiness
from certeusd.syslog.senders import TCP

BLOCK_BYTES = 64 * 1024
ALWAYS_BYTES = 32
"""More than any length has digits."""


class Stream:
    """One connection. Owns its socket; ends by itself."""

    def __init__(
        self,
        end: socket.socket,
        intake: Intake,
        readiness: Readiness,
        syslog: SyslogSection,
        spoke: Callable[["Stream"], None],
    ) -> None:
        self._end = end
        self._intake = intake
        self._readiness = readiness
        self._type = syslog.type
        self._message_bytes_max = syslog.message_bytes_max
        self._spoke = spoke
        self._begun = bytearray()
        """Of a message whose end has not come."""
        self._is_over = False

    async def run(self) -> None:
        """Read until the peer ends it, or the process drains."""
        with contextlib.closing(self._end):
            last = False
            while not (last or self._is_over):
                last = self._readiness.ended
                await self._readiness.of(self._end)
                while not (self._is_over or self._readiness.over) and await self._block():
                    pass
            if self._begun:
                async with self._intake.turn():
                    await self._take(final=True)

    def end(self) -> None:
        """Have it end; what has come is still taken."""
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)

    async def _block(self) -> bool:
        """Have one turn; False: nothing was there."""
        async with self._intake.turn():
            try:
                data = self._end.recv(BLOCK_BYTES)
            except BlockingIOError:
                return False
            except OSError:
                data = b""
            if not data:
                self._is_over = True
                return False
            self._begun += data
            if self._may_be_whole(data):
                await self._take(final=False)
        await asyncio.sleep(0)
        return True

    def _may_be_whole(self, data: bytes) -> bool:
        """Whether it is worth looking: what comes byte by byte must not be looked at for each."""
        if len(self._begun) <= ALWAYS_BYTES:
            return True
        length, space, _ = bytes(self._begun[:ALWAYS_BYTES]).partition(b" ")
        if space and length.isdigit() and not length.startswith(b"0"):
            wanted = int(length)
            return wanted > self._message_bytes_max or len(self._begun) > len(length) + wanted
        return b"\n" in data or b"\0" in data or len(self._begun) > self._message_bytes_max

    async def _take(self, *, final: bool) -> None:
        parts = list[Encoded]()
        while self._begun:
            try:
                part = self._intake.encoder.syslog_stream(
                    bytes(self._begun), self._type, TCP, self._message_bytes_max, final
                )
            except ValueError:
                # Where its next message begins nobody knows.
                self._intake.refuse(NO_FRAME)
                self._is_over = True
                self._begun.clear()
                break
            parts.append(part)
            if part.count:
                self._spoke(self)
            del self._begun[: part.consumed]
            if not part.consumed:
                break
        await self._intake.take(parts)
