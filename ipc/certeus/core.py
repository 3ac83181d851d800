"""One producer's state, whoever waits for it: ring, receipts, and what ended it.

Nothing here waits, locks, or reads the session socket: `producer.py` does so with threads, `aio.py`
with an event loop. Every method of the native ring is one step under the GIL, so appending needs no
lock. A resume swaps the ring: the old one is retired in the same step in which its frames are
copied, and who then still appends to it is told 0, and comes here again.
"""

import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

from certeus._native import RING_BYTES_MAX, RING_BYTES_MIN, GarbageError, Ring
from certeus.errors import ClosedError, ConnectError, Error, ForkedError, InDoubtError
from certeus.event import Data, Event, Frame, encode_json
from certeus.receipts import Entry, Receipt, Receipts
from certeus.session import (
    FINAL_REASONS,
    CutError,
    Hello,
    LostError,
    RefusedError,
    Welcome,
    dial,
)

BORN_NOW = (1 << 62) - 1
HELLO_PAUSE_S = 0.01
"""The ``birth_seq`` of a producer that has tickets behind it and is new to the log all the same."""
_PLAIN_REST = (None, None, None, None, None, None, None)


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counts since the producer was made. Tickets, but for the last four."""

    appended: int
    settled: int
    """With a verdict: the sum of the next four."""
    accepted: int
    escalated: int
    duplicates: int
    rejected: int
    resent: int
    """Offered again after a reconnect."""
    reconnects: int
    connected: bool
    ring_bytes: int
    ring_used_bytes: int
    last_loss: str
    """Why the last session ended; empty for none."""


class Core:
    """State of one producer. Made from the first welcome."""

    def __init__(self, path: str, hello: Hello, welcome: Welcome) -> None:
        self.path = path
        self.hello = hello
        self.receipts = Receipts()
        self.birth_seq = welcome.birth_seq
        self.log_id = welcome.log_id
        self.connected = True
        self.closed = False
        self.resent = 0
        self.reconnects = 0
        self.last_loss = ""
        self._ended: Callable[[], Error] | None = None
        self.ring = _map(welcome, hello.ring_bytes)

    # --- appending -------------------------------------------------------------------------------

    def append(self, frame: Frame) -> int:
        """Return the ticket; 0 when the ring is full.

        Raises:
            Error: the producer has ended.
            ValueError: a limit is exceeded; nothing was written.
        """
        while True:
            ring = self.ring
            ticket = ring.append(*frame)
            if ticket:
                return ticket
            self.check()
            if ring is self.ring:
                return 0

    def check(self) -> None:
        """Raise what ended the producer for its callers, if anything did."""
        if self.closed:
            raise closed_error()
        self.check_session()

    def check_session(self) -> None:
        """Raise what ended it for good: a fork, or a final refusal."""
        if self.ring.forked:
            raise forked_error()
        if self._ended is not None:
            raise self._ended()

    @property
    def usable(self) -> bool:
        """Whether `check` would not raise."""
        return not self.closed and self._ended is None and not self.ring.forked

    @property
    def ended(self) -> bool:
        """Whether a refusal was final: no session will come again."""
        return self._ended is not None

    def close(self) -> None:
        """No append from now on; what is in the ring is still settled."""
        self.closed = True
        self.ring.retire()

    # --- verdicts --------------------------------------------------------------------------------

    def drain(self) -> int:
        """Take the verdicts that are out; the last settled ticket.

        Raises:
            LostError: the daemon wrote garbage, this session is over.
        """
        try:
            settled, entries = self.ring.drain()
        except GarbageError as error:
            raise LostError(str(error)) from error
        if entries or settled > self.receipts.settled:
            self.receipts.record(self.log_id, settled, map(Entry._make, entries))
        return settled

    def receipt(self, ticket: int) -> Receipt:
        """Return what became of a ticket.

        Raises:
            LookupError: it has no verdict yet, or its receipt is no longer kept.
        """
        found = self.receipts.find(ticket)
        if found is not None:
            return found
        if ticket > self.receipts.settled:
            raise LookupError(f"ticket {ticket} is not settled yet; call wait_durable first")
        raise LookupError(f"the receipt of ticket {ticket} is not kept any more; ask the log by id")

    def statistics(self) -> Statistics:
        """All counts, as of the last drain."""
        receipts = self.receipts
        return Statistics(
            appended=self.ring.last_ticket,
            settled=receipts.settled,
            accepted=receipts.accepted,
            escalated=receipts.escalated,
            duplicates=receipts.duplicates,
            rejected=receipts.rejected,
            resent=self.resent,
            reconnects=self.reconnects,
            connected=self.connected,
            ring_bytes=self.hello.ring_bytes,
            ring_used_bytes=self.ring.used_bytes,
            last_loss=self.last_loss,
        )

    def unsettled(self) -> range:
        """Return the tickets without a verdict."""
        return range(self.receipts.settled + 1, self.ring.last_ticket + 1)

    def in_doubt(self, why: str, next: str) -> InDoubtError:
        """Make that error, for all that is not settled."""
        tickets = self.unsettled()
        return InDoubtError(
            f"{why}; tickets {tickets.start} to {tickets.stop - 1} are in doubt; {next}",
            tickets=tickets,
        )

    # --- sessions --------------------------------------------------------------------------------

    def lost(self, why: str) -> None:
        """Note that the session is over; the ring goes on taking events until it is full."""
        self.connected = False
        self.last_loss = why

    def resume_hello(self) -> Hello:
        """Make a hello that goes on where the last session ended."""
        with suppress(LostError):  # what is not read will be told again
            self.drain()
        hello = self.hello
        settled = self.ring.settled
        return Hello(hello.producer, hello.source, hello.ring_bytes, self.birth_seq, settled)

    def adopt(self, welcome: Welcome) -> None:
        """Go on in a new session: offers again what is above `welcome.high`, before anything new.

        Raises:
            LostError: the daemon's answer cannot be true; nothing has changed.
        """
        ring = _map(welcome, self.hello.ring_bytes)
        try:
            self.resent += ring.adopt_unsettled(self.ring, welcome.high)
        except GarbageError as error:
            raise LostError(str(error)) from error
        if self.closed:
            ring.retire()
        self.ring = ring
        if self.birth_seq == BORN_NOW:
            self.birth_seq = welcome.birth_seq
        self.log_id = welcome.log_id
        self.connected = True
        self.reconnects += 1

    def refused(self, refusal: RefusedError) -> bool:
        """Whether a later refusal is final; the producer has then ended."""
        self.last_loss = str(refusal)
        if refusal.reason not in FINAL_REASONS:
            return False
        if refusal.reason == "producer-expired" and not self.unsettled():
            # Nothing was offered that has no verdict, so nothing is in doubt: go on as a new one.
            self.hello = replace(self.hello, producer=_random_bits())
            self.birth_seq = BORN_NOW
            return False
        if refusal.reason == "producer-expired":
            then = "look for them in the log by their ids before appending them again"
            self._ended = lambda: self.in_doubt(str(refusal), then)
        else:
            self._ended = lambda: _refused(refusal)
        self.ring.retire()
        return True


class Bulk:
    """Appends many rows: in bulk what goes so, and yields the frames that need `append`.

    Whoever iterates appends each yielded frame, and stores its ticket in `last_ticket`.
    """

    def __init__(self, core: Core, type: str, rows: Iterable[Data | Event]) -> None:
        self._core = core
        self._type = type
        self._rows = rows
        self.last_ticket = core.ring.last_ticket

    def frames(self) -> Iterator[Frame]:
        """Yield the frames that the caller is to append, each before the next is asked for."""
        rows = self._rows
        if isinstance(rows, tuple):
            rows = list(rows)
        if isinstance(rows, list):
            yield from self._list_frames(rows)
            return
        # Of an iterator we cannot know how long its next row takes: each is appended as it comes.
        for row in rows:
            yield self._frame(row)

    def _list_frames(self, rows: list[Data | Event]) -> Iterator[Frame]:
        index = 0
        while index < len(rows):
            count, last = self._core.ring.append_many(self._type, rows, index)
            if count:
                self.last_ticket = last
                index += count
            else:
                yield self._frame(rows[index])
                index += 1

    def _frame(self, row: Data | Event) -> Frame:
        if isinstance(row, Event):
            return row.frame(self._type)
        if isinstance(row, bytes | bytearray | memoryview):
            return _plain(self._type, bytes(row))
        return _plain(self._type, encode_json(row))


def first_hello(source: str, ring_bytes: int) -> Hello:
    """Make a new producer's hello.

    Raises:
        ValueError: the arguments cannot be right.
    """
    bytes_max = 255
    if not 1 <= len(source.encode()) <= bytes_max or "\0" in source:
        raise ValueError(f"cannot connect as {source!r}: give a source of 1 to {bytes_max} bytes")
    if ring_bytes & (ring_bytes - 1) or not RING_BYTES_MIN <= ring_bytes <= RING_BYTES_MAX:
        raise ValueError(
            f"cannot use a ring of {ring_bytes} bytes: give a power of two from "
            f"{RING_BYTES_MIN} to {RING_BYTES_MAX}"
        )
    return Hello(_random_bits(), source, ring_bytes, None, 0)


def _random_bits() -> str:
    return secrets.token_hex(16)


def open_core(path: str, hello: Hello, timeout: float) -> tuple[Core, Welcome]:
    """Say the first hello; again, within the timeout, if it met a worker that was about to end.

    Raises:
        ConnectError: nobody answered, or the daemon said no.
    """
    deadline = time.monotonic() + timeout
    while True:
        left = deadline - time.monotonic()
        try:
            welcome = dial(path, hello, left)
            break
        except RefusedError as refusal:
            if refusal.reason != "draining" or left <= HELLO_PAUSE_S:
                raise _refused(refusal) from refusal
        except CutError as error:
            if left <= HELLO_PAUSE_S:
                raise _unreachable(error) from error
        except LostError as error:
            raise _unreachable(error) from error
        time.sleep(HELLO_PAUSE_S)
        # Somebody new: nothing was appended, and the log may have heard of the one before.
        hello = replace(hello, producer=_random_bits())
    try:
        return Core(path, hello, welcome), welcome
    except (LostError, OSError) as error:
        welcome.socket.close()
        raise _unreachable(error) from error


def forked_error() -> ForkedError:
    """Make what a child gets."""
    return ForkedError(
        f"process {os.getpid()} was forked from the one that made this producer; connect anew in it"
    )


def closed_error() -> ClosedError:
    """Make what any use after `close` gets."""
    return ClosedError("the producer is closed; connect anew")


def _plain(type: str, data: bytes) -> Frame:
    return (type, data, False, *_PLAIN_REST)


def _map(welcome: Welcome, ring_bytes: int) -> Ring:
    try:
        p, c, e = welcome.descriptors
        return Ring(p, c, e, ring_bytes, welcome.high, welcome.event_bytes_max)
    except GarbageError as error:
        raise LostError(str(error)) from error
    finally:
        welcome.close_descriptors()


def _refused(refusal: RefusedError) -> ConnectError:
    return ConnectError(f"the daemon refused the session: {refusal}", reason=refusal.reason)


def _unreachable(error: Exception) -> ConnectError:
    return ConnectError(
        f"cannot reach certeusd: {error}; start it, or give its ingest socket by the argument "
        "`socket` or by CERTEUS_SOCKET",
        reason="unreachable",
    )
