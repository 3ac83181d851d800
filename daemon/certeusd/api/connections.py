"""A guard around aiohttp's protocol: what one connection may cost, in time, memory and number.

```text
accepted ──slot?──▶ headers ──10 s──▶ a request ──▶ answer ──75 s idle──▶ closed
   └─no: closed        └─late: closed    └─ reads nothing of the answer for 30 s: closed
```

Times are looked at once a second for all connections (`Connections.sweep`): no timer a connection.
A slot is given back when the connection is gone *and* its handler has ended, so that who connects,
asks and runs away has no more handlers than slots. What does not parse is answered and not logged:
a stranger must not fill the journal.
"""

import asyncio
import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import cast

from aiohttp import http_exceptions, web

from certeusd.api.peers import Caller
from certeusd.api.problems import ProblemError
from certeusd.api.slots import STRANGERS, Slots

HEADERS_TIMEOUT_S = 10.0
"""From a request's first byte (a connection's first moment) to the end of its headers."""
IDLE_TIMEOUT_S = 75.0
WRITE_TIMEOUT_S = 30.0
"""For so long a peer may take nothing of what is there for it."""
LINGER_S = 5.0
"""How long a body that nobody wants is read away, so that the refusal is seen."""
CUT_TIMEOUT_S = 0.5
"""At the end, for handlers that are cut off."""
READ_BUFFER_BYTES = 64 * 1024
"""Of a body, before anybody reads it: twice that is held, no more."""
WRITE_BUFFER_BYTES = 64 * 1024
LINE_BYTES_MAX = 8190
HEADERS_MAX = 128

Handle = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Count = Callable[[str], None]
"""By a field of the board."""


def _silent() -> logging.Logger:
    logger = logging.Logger("certeusd.api", logging.CRITICAL + 1)
    logger.propagate = False
    return logger


class State(StrEnum):
    """What a connection is at."""

    READING = "reading"
    """The headers of a request."""
    ANSWERING = "answering"
    STUCK = "stuck"
    """The peer takes nothing of what is there for it."""
    IDLE = "idle"
    CLOSING = "closing"


class Connection(web.RequestHandler):
    """One connection, and the times that it must keep."""

    def __init__(self, server: web.Server, caller: Caller | None, gone: "_Gone") -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=IDLE_TIMEOUT_S,
            logger=_SILENT,
            access_log=_SILENT,
            max_line_size=LINE_BYTES_MAX,
            max_field_size=LINE_BYTES_MAX,
            max_headers=HEADERS_MAX,
            lingering_time=LINGER_S,
            read_bufsize=READ_BUFFER_BYTES,
            auto_decompress=False,  # `bodies` does, within bounds.
        )
        self.caller = caller
        """By the kernel's word; None: of the port, where each request says who asks."""
        self.first_byte_at = time.monotonic()
        """Of the request that is being read or answered."""
        self._gone = gone
        self._end: asyncio.Transport | None = None
        self._lost = False
        self._busy = False
        self._reading = True
        self._until = {
            "headers": self.first_byte_at + HEADERS_TIMEOUT_S, "write": math.inf, "end": math.inf,
        }  # fmt: skip

    # --- the loop's calls ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; its peer has a slot."""
        # uvloop's transports are none of asyncio's classes.
        self._end = cast(asyncio.Transport, transport)
        self._end.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Take bytes; the first ones of a request begin its time."""
        if data and not self._busy and not self._reading:
            self._reading = True
            self.first_byte_at = time.monotonic()
            self._until["headers"] = self.first_byte_at + HEADERS_TIMEOUT_S
        super().data_received(data)

    def pause_writing(self) -> None:
        """Begin the time in which the peer must take something."""
        super().pause_writing()
        self._until["write"] = time.monotonic() + WRITE_TIMEOUT_S

    def resume_writing(self) -> None:
        """It has taken enough."""
        super().resume_writing()
        self._until["write"] = math.inf

    def connection_lost(self, exc: BaseException | None) -> None:
        """End; the slot is given back when the handler has ended, too."""
        super().connection_lost(exc)
        self._lost = True
        self._leave()

    # --- a request's life ------------------------------------------------------------------------

    def begin(self) -> None:
        """Its headers are complete."""
        if not self._reading:  # It came behind the one before it, in one piece.
            self.first_byte_at = time.monotonic()
        self._busy, self._reading = True, False
        self._until["headers"] = math.inf

    def finish(self) -> None:
        """Its handler has ended."""
        self._busy = False
        self._leave()

    def _leave(self) -> None:
        if self._lost and not self._busy:
            self._gone(self)

    # --- the sweep -------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """What it is at."""
        if self._end is not None and self._end.is_closing():
            return State.CLOSING
        if self._until["write"] != math.inf:
            return State.STUCK
        if self._busy:
            return State.ANSWERING
        return State.READING if self._reading else State.IDLE

    def overdue(self, now: float) -> bool:
        """Whether a time is over that it had to keep."""
        if self.state is State.CLOSING and self._until["end"] == math.inf:
            self._until["end"] = now + WRITE_TIMEOUT_S  # What is left may still be taken.
        return now >= min(self._until.values())

    def abort(self) -> None:
        """End it now, whatever the peer has not taken."""
        if self._end is not None:
            self._end.abort()

    # --- what aiohttp refuses --------------------------------------------------------------------

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer what was no request, in the form of all problems; the connection ends."""
        if request.writer.output_size > 0 or isinstance(exc, ConnectionError):
            raise ConnectionError("the answer has begun, or nobody takes one")
        answer = _refusal(exc).response()
        answer.force_close()
        return answer


_Gone = Callable[[Connection], None]
_SILENT = _silent()


def _refusal(error: BaseException | None) -> ProblemError:
    match error:
        case http_exceptions.LineTooLong():
            return ProblemError(
                431, "headers-too-large", "headers too large",
                f"a line has more than {LINE_BYTES_MAX} bytes: send less",
            )  # fmt: skip
        case http_exceptions.HttpProcessingError():
            return ProblemError(
                400, "bad-http", "not HTTP", "this is no HTTP/1.1 request: see RFC 9112"
            )
        case _:
            return ProblemError(500, "bug", "bug", f"{type(error).__name__}: see the log")


class Connections:
    """All connections of the process, whichever socket they came by."""

    def __init__(self, handle: Handle, slots: Slots, count: Count) -> None:
        self._server = web.Server(self._answer, access_log=None)
        self._handle = handle
        self._slots = slots
        self._count = count
        self._all: dict[Connection, str] = {}
        self._closing = False
        self._empty = asyncio.Event()

    def __len__(self) -> int:
        return len(self._slots)

    def admit(self, caller: Caller | None) -> Connection | None:
        """Return a protocol for one that has come; None: it is one too many."""
        peer = "port" if caller is None else caller.name
        if caller is not None and not (caller.appends or caller.reads):
            peer = STRANGERS
        if not self._slots.take(peer):
            self._count("turned_away_total")
            return None
        self._count("connections_total")
        connection = Connection(self._server, caller, self.gone)
        self._all[connection] = peer
        return connection

    def gone(self, connection: Connection) -> None:
        """Give its slot back; once."""
        peer = self._all.pop(connection, None)
        if peer is not None:
            self._slots.give_back(peer)
        if not self._all:
            self._empty.set()

    def states(self) -> Counter[State]:
        """Count connections by what they are at."""
        return Counter(connection.state for connection in self._all)

    def sweep(self, now: float) -> None:
        """End those that did not keep their times."""
        for connection in [one for one in self._all if one.overdue(now)]:
            connection.abort()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection), "it made all of them"
        connection.begin()
        try:
            answer = await self._handle(request)
        finally:
            connection.finish()
        if self._closing:
            answer.force_close()
        return answer

    async def close(self, timeout_s: float) -> None:
        """End the idle ones, wait for what is under way, then end all.

        aiohttp's own shutdown takes no more bytes at once, and so cuts bodies that are still
        coming: it is for those that are left.
        """
        await asyncio.sleep(0)  # What has come in whole begins.
        self._closing = True
        for connection in list(self._all):
            if connection.state in (State.IDLE, State.READING):
                connection.force_close()
        if self._all:
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), timeout_s)
        await self._server.shutdown(CUT_TIMEOUT_S)
        for connection in list(self._all):
            connection.abort()
