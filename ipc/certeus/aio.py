"""`AsyncProducer`: the same as `Producer`, waiting in the event loop that it was made in."""

import asyncio
import os
import socket as sockets
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from certeus.aio_link import AsyncLink
from certeus.core import Bulk, Core, Statistics, first_hello, forked_error, open_core
from certeus.errors import RejectedError, RingFullError
from certeus.event import Data, Event, Extensions, Frame, Time
from certeus.producer import CLOSE_TIMEOUT_ON_ERROR_S, CLOSE_TIMEOUT_S, RING_BYTES
from certeus.receipts import Receipt
from certeus.session import default_path


async def connect_async(
    socket: str | os.PathLike[str] | None = None,
    *,
    source: str,
    ring_bytes: int = RING_BYTES,
    timeout: float = 5.0,
) -> "AsyncProducer":
    """Open an AsyncProducer; arguments and errors as for `connect`."""
    path = default_path() if socket is None else os.fspath(socket)
    hello = first_hello(source, ring_bytes)
    core, welcome = await asyncio.to_thread(open_core, path, hello, timeout)
    return AsyncProducer(core, welcome.socket)


class AsyncProducer:
    """One producer of events; made by `connect_async`. Every method as in `Producer`."""

    def __init__(self, core: Core, sock: sockets.socket) -> None:
        self._core = core
        self._link = AsyncLink(core, sock)

    # --- appending -------------------------------------------------------------------------------

    async def append(
        self,
        type: str,
        data: Data,
        *,
        id: str | None = None,
        subject: str | None = None,
        time: Time | None = None,
        source: str | None = None,
        content_type: str | None = None,
        dataschema: str | None = None,
        extensions: Extensions | None = None,
        timeout: float | None = None,
    ) -> int:
        """Put one event into the ring, waiting while it is full; see `Producer.append`."""
        event = Event(data, type, id, subject, time, source, content_type, dataschema, extensions)
        return await self._append(event.frame(type), timeout)

    def append_nowait(
        self,
        type: str,
        data: Data,
        *,
        id: str | None = None,
        subject: str | None = None,
        time: Time | None = None,
        source: str | None = None,
        content_type: str | None = None,
        dataschema: str | None = None,
        extensions: Extensions | None = None,
    ) -> int:
        """`append`, which raises RingFullError at once when there is no room."""
        event = Event(data, type, id, subject, time, source, content_type, dataschema, extensions)
        frame = event.frame(type)
        ticket = self._core.append(frame)
        if not ticket:
            self._link.drain()
            ticket = self._core.append(frame)
        if not ticket:
            raise _full()
        return ticket

    async def append_many(
        self, type: str, rows: Iterable[Data | Event], *, timeout: float | None = None
    ) -> int:
        """Append each row, in order; see `Producer.append_many`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        bulk = Bulk(self._core, type, rows)
        try:
            for frame in bulk.frames():
                left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
                bulk.last_ticket = await self._append(frame, left)
        except Exception as error:
            setattr(error, "last_ticket", bulk.last_ticket)  # noqa: B010 - foreign types too
            raise
        return bulk.last_ticket

    async def _append(self, frame: Frame, timeout: float | None) -> int:
        ticket = self._core.append(frame)
        if ticket:
            return ticket
        return await self._link.wait(lambda: self._core.append(frame), timeout, give_up=_full)

    # --- verdicts --------------------------------------------------------------------------------

    async def wait_durable(self, ticket: int, timeout: float | None = None) -> None:
        """Wait until the ticket and all before it are settled; see `Producer.wait_durable`."""
        core = self._core
        if not 0 <= ticket <= core.ring.last_ticket:
            core.check()
            raise ValueError(
                f"ticket {ticket} was never given, the last is {core.ring.last_ticket}; pass what "
                "append returned"
            )
        if core.receipts.settled < ticket or not core.usable:
            await self._link.wait(
                lambda: core.receipts.settled >= ticket,
                timeout,
                ticket=ticket,
                give_up=lambda: TimeoutError(
                    f"ticket {ticket} is not durable after {timeout} s; wait again, or look at "
                    "`certeus status`"
                ),
            )
        rejected = core.receipts.tell_rejections(ticket)
        if rejected is not None:
            raise rejected

    def receipt(self, ticket: int) -> Receipt:
        """Return what became of a settled ticket; see `Producer.receipt`."""
        self._link.drain()
        return self._core.receipt(ticket)

    def statistics(self) -> Statistics:
        """Count everything, as of now."""
        self._link.drain()
        return self._core.statistics()

    # --- ending ----------------------------------------------------------------------------------

    async def close(self, timeout: float = CLOSE_TIMEOUT_S) -> None:
        """Settle everything and say goodbye; see `Producer.close`."""
        core = self._core
        if core.ring.forked:
            raise forked_error()
        if core.closed:
            return
        core.close()
        last = core.ring.last_ticket
        try:
            await self._link.wait(
                lambda: core.receipts.settled >= last,
                timeout,
                ticket=last,
                closing=True,
                give_up=lambda: core.in_doubt(
                    f"not settled within {timeout} s of closing",
                    "look for them in the log by their ids before appending them again",
                ),
            )
        finally:
            await self._link.stop(goodbye=not core.unsettled())
        rejected = core.receipts.tell_rejections(core.ring.last_ticket)
        if rejected is not None:
            raise rejected

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            await self.close()
            return
        try:
            await self.close(CLOSE_TIMEOUT_ON_ERROR_S)
        except RejectedError as rejected:
            error.add_note(f"certeus: {rejected}")


def _full() -> RingFullError:
    return RingFullError(
        "the ring is full: the daemon is slower than this producer, or absent; try again later, "
        "or connect with larger ring_bytes"
    )
