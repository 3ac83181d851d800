"""`Producer`: what applications hold, for threads. `link.py` says who waits and who reconnects."""

import os
import socket as sockets
import time
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from certeus.core import (
    Bulk,
    Core,
    Statistics,
    first_hello,
    forked_error,
    open_core,
)
from certeus.errors import RejectedError, RingFullError
from certeus.event import Data, Event, Extensions, Frame, Time
from certeus.link import Link
from certeus.receipts import Receipt
from certeus.session import default_path

RING_BYTES = 4 * 1024 * 1024
CLOSE_TIMEOUT_S = 60.0
CLOSE_TIMEOUT_ON_ERROR_S = 1.0


def connect(
    socket: str | os.PathLike[str] | None = None,
    *,
    source: str,
    ring_bytes: int = RING_BYTES,
    timeout: float = 5.0,
) -> "Producer":
    """Open a producer.

    Args:
        socket: The daemon's ingest socket. Default: ``$CERTEUS_SOCKET``, else
            ``/run/certeus/ingest.sock``, else the one below ``$XDG_RUNTIME_DIR``.
        source: CloudEvents source of every event that names none, 1..255 UTF-8 bytes.
        ring_bytes: What may be under way, a power of two from 64 KiB to 16 MiB. One event takes at
            most an eighth of it.
        timeout: Seconds for the first hello. An absent daemon is no error any more afterwards.

    Raises:
        ConnectError: nobody answered, or the daemon said no.
        ValueError: an argument cannot be right.
    """
    path = default_path() if socket is None else os.fspath(socket)
    core, welcome = open_core(path, first_hello(source, ring_bytes), timeout)
    return Producer(core, welcome.socket)


class Producer:
    """One producer of events; made by `connect`. May be shared by threads."""

    def __init__(self, core: Core, sock: sockets.socket) -> None:
        self._core = core
        self._link = Link(core, sock)

    # --- appending -------------------------------------------------------------------------------

    def append(
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
        """Put one event into the ring; durable only once its ticket is settled.

        Waits while the ring is full.

        Args:
            type: CloudEvents type, 1..255 UTF-8 bytes.
            data: A JSON value, or bytes (copied). Bytes are encoded JSON, which the daemon checks,
                unless ``content_type`` names something else.
            id: Key by which a retry is recognised, together with the source.
            subject: 1..1024 bytes.
            time: When it happened: aware datetime or RFC 3339 text. Never filled in.
            source: Instead of the producer's own.
            content_type: Media type of data.
            dataschema: URI of data's schema.
            extensions: At most 32 CloudEvents extension attributes.
            timeout: Seconds to wait for room; none: as long as it takes.

        Returns:
            Ticket: dense from 1 over the Producer's life, across reconnects.

        Raises:
            RingFullError: back-pressure for the whole timeout; nothing was written.
            TypeError, ValueError: what the caller could know; nothing was written.
            ClosedError, ForkedError, ConnectError, InDoubtError: the producer has ended.

        Source: ipc/README.md, "Session".
        """
        if content_type is None and time is None and not extensions:
            # The plain case, without an object on the way.
            ring = self._core.ring
            ticket = ring.append_plain(type, data, id, subject, source, dataschema)
            if ticket:
                return ticket
        event = Event(data, type, id, subject, time, source, content_type, dataschema, extensions)
        return self._append(event.frame(type), timeout)

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
        return self._append(event.frame(type), 0.0)

    def append_many(
        self, type: str, rows: Iterable[Data | Event], *, timeout: float | None = None
    ) -> int:
        """Append each row, in order, with one publication for many where that is possible.

        Args:
            type: CloudEvents type of every row but the Events that have their own.
            rows: Data as for `append`, or Events. A list is taken in bulk; of any other iterable
                each row is published as it comes.
            timeout: Seconds to wait for room, in all.

        Returns:
            The last ticket; for no rows that of the last append before.

        Raises:
            RingFullError, TypeError, ValueError: as for `append`. Rows before the failed one are
                appended; the exception's ``last_ticket`` says how far that is.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        bulk = Bulk(self._core, type, rows)
        try:
            for frame in bulk.frames():
                left = None if deadline is None else max(deadline - time.monotonic(), 0.0)
                bulk.last_ticket = self._append(frame, left)
        except Exception as error:
            setattr(error, "last_ticket", bulk.last_ticket)  # noqa: B010 - foreign types too
            raise
        return bulk.last_ticket

    def _append(self, frame: Frame, timeout: float | None) -> int:
        ticket = self._core.append(frame)
        if ticket:
            return ticket
        return self._link.wait(
            lambda: self._core.append(frame),
            timeout,
            room=True,
            give_up=lambda: RingFullError(
                "the ring is full: the daemon is slower than this producer, or absent; try again "
                "later, or connect with larger ring_bytes"
            ),
        )

    # --- verdicts --------------------------------------------------------------------------------

    def wait_durable(self, ticket: int, timeout: float | None = None) -> None:
        """Wait until the ticket and all before it are settled.

        Args:
            ticket: As `append` gave it.
            timeout: Seconds; none: as long as it takes.

        Raises:
            RejectedError: events up to it were rejected and not reported before.
            TimeoutError: not settled in time; waiting again is safe.
            ValueError: no such ticket was given.
            ClosedError, ForkedError, ConnectError, InDoubtError: the producer has ended.
        """
        core = self._core
        if not 0 <= ticket <= core.ring.last_ticket:
            core.check()
            raise ValueError(
                f"ticket {ticket} was never given, the last is {core.ring.last_ticket}; pass what "
                "append returned"
            )
        if core.receipts.settled < ticket or not core.usable:
            self._link.wait(
                lambda: core.receipts.settled >= ticket,
                timeout,
                ticket=ticket,
                give_up=lambda: TimeoutError(
                    f"ticket {ticket} is not durable after {timeout} s; wait again, or look at "
                    "`certeus status`"
                ),
            )
        with self._link.lock:
            rejected = core.receipts.tell_rejections(ticket)
        if rejected is not None:
            raise rejected

    def receipt(self, ticket: int) -> Receipt:
        """Return what became of a settled ticket; the last 64 K are kept.

        Raises:
            LookupError: it has no verdict yet, or its receipt is no longer kept.
        """
        with self._link.lock:
            self._link.drain()
            return self._core.receipt(ticket)

    def statistics(self) -> Statistics:
        """Count everything, as of now. Works after `close`, too."""
        with self._link.lock:
            self._link.drain()
            return self._core.statistics()

    # --- ending ----------------------------------------------------------------------------------

    def close(self, timeout: float = CLOSE_TIMEOUT_S) -> None:
        """Settle everything and say goodbye. Closing twice is fine.

        Raises:
            InDoubtError: not all was settled in time. What the ring holds may become durable yet.
            RejectedError: events were rejected and not reported before; all else is settled.
            ForkedError: this is a child.
        """
        core = self._core
        if core.ring.forked:
            raise forked_error()
        with self._link.lock:
            if core.closed:
                return
            core.close()
        try:
            self._settle(timeout)
        finally:
            self._link.stop(goodbye=not core.unsettled())
        with self._link.lock:
            rejected = core.receipts.tell_rejections(core.ring.last_ticket)
        if rejected is not None:
            raise rejected

    def _settle(self, timeout: float) -> None:
        core, last = self._core, self._core.ring.last_ticket
        self._link.wait(
            lambda: core.receipts.settled >= last,
            timeout,
            ticket=last,
            closing=True,
            give_up=lambda: core.in_doubt(
                f"not settled within {timeout} s of closing",
                "look for them in the log by their ids before appending them again",
            ),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
            return
        try:
            self.close(CLOSE_TIMEOUT_ON_ERROR_S)
        except RejectedError as rejected:
            error.add_note(f"certeus: {rejected}")
