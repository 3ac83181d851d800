"""`Door`: a producer inside the daemon, for whoever speaks another format than the ring's.

```text
blocks of bytes ──encoder (Rust)──▶ payloads ──append──▶ ring ═══▶ worker
verdicts by runs ◀── settled ◀───────────────────────── ring ◀═══
```

It is the library's session, fed with payloads that an encoder made: nothing here is done once an
event. Blocks are appended in turn, so a block's tickets are consecutive and a peer that sends much
gets in nobody's way for longer than a block takes. While the ring is full, `append` waits: that is
the back-pressure which the caller passes on to its own peer.
"""

import asyncio
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

from certeus.aio_link import AsyncLink, in_thread
from certeus.core import Core, first_hello, open_core
from certeus.errors import Error
from certeus.receipts import Entry, Receipt, Receipts
from certeusd.config import LimitsSection

RING_BYTES = 4 * 1024 * 1024
ATTRIBUTES_BYTES_MAX = 24 * 1024
"""Of one event, with what is before its data (`ipc/src/record.rs`)."""
RECEIPTS_KEPT = 262_144
"""Of tickets that no taker needs; more than a ring holds of the smallest events."""
CONNECT_TIMEOUT_S = 10.0


def ring_bytes(limits: LimitsSection) -> int:
    """Return the size of a door's ring: no smaller than the largest event needs."""
    wanted = 8 * (limits.event_bytes_max + ATTRIBUTES_BYTES_MAX)
    return min(max(RING_BYTES, 1 << (wanted - 1).bit_length()), limits.ring_bytes_max)


def event_bytes_max(limits: LimitsSection, size: int) -> int:
    """Return how much data an event may have in a ring of this size."""
    return min(limits.event_bytes_max, size // 8 - ATTRIBUTES_BYTES_MAX)


class LateError(Exception):
    """The time was over first; what was appended stays appended."""


class Run(NamedTuple):
    """Events in a row with one verdict, and consecutive `seq` where they have one."""

    length: int
    receipt: Receipt | None
    """Of the first; None: accepted, and its `seq` is not known."""


class Taker(Protocol):
    """Somebody who takes the verdicts of what it has appended."""

    def take(self) -> bool:
        """Take some of those that are out; whether more of them are."""
        ...

    @property
    def first_untaken(self) -> int | None:
        """The first of its tickets whose verdict it has not taken; None: it has all."""
        ...


class _TakenReceipts(Receipts):
    """Offered to all takers as they come, and kept for as long as one of them needs them."""

    def __init__(self) -> None:
        super().__init__(RECEIPTS_KEPT)
        self.needed = 1
        self.takers: list[Taker] = []

    def record(self, log_id: str, settled: int, entries: Iterable[Entry]) -> None:
        super().record(log_id, settled, entries)
        for taker in self.takers:
            taker.take()
        # What is settled later is not forgotten before it was offered.
        untaken = [taker.first_untaken for taker in self.takers]
        self.needed = min([self.settled + 1, *(first for first in untaken if first is not None)])


class Door:
    """One producer. Made by `open`, in the loop that it belongs to."""

    def __init__(self, core: Core, link: AsyncLink) -> None:
        core.receipts = self._receipts = _TakenReceipts()
        self._core = core
        self._link = link
        self._turn = asyncio.Lock()

    @classmethod
    async def open(
        cls,
        socket: Path,
        source: str,
        *,
        ring_bytes: int = RING_BYTES,
        timeout_s: float = CONNECT_TIMEOUT_S,
    ) -> "Door":
        """Say hello at a door's private socket.

        Args:
            socket: `doors.private_path`.
            source: of the events that name none; 1..255 bytes.
            ring_bytes: a power of two.
            timeout_s: bounds this call alone; later an absent worker is only back-pressure.

        Raises:
            ConnectError: nobody answered in time, or the session was refused.
        """
        hello = first_hello(source, ring_bytes)
        # A thread of its own: those that wait here keep nothing else of the loop's pool waiting.
        core, welcome = await in_thread(partial(open_core, os.fspath(socket), hello, timeout_s))
        return cls(core, AsyncLink(core, welcome.socket))

    @property
    def usable(self) -> bool:
        """Whether it takes events; one that is not is closed, and another one opened."""
        return self._core.usable

    @property
    def idle(self) -> bool:
        """Whether nobody waits to append, and everything is settled."""
        return not self._turn.locked() and not self._core.unsettled()

    @contextmanager
    def taken_by(self, taker: Taker) -> Generator[None]:
        """Let somebody take verdicts as they come; what it has not taken is not forgotten."""
        takers = self._receipts.takers
        takers.append(taker)
        try:
            yield
        finally:
            takers.remove(taker)

    async def append(
        self, payloads: bytes, timeout_s: float, tell: Callable[[range], None] | None = None
    ) -> range:
        """Append an encoder's payloads in order, waiting while the ring is full.

        Args:
            payloads: borrowed for the call (`_native.Encoded.payloads`).
            timeout_s: how long to wait for room, in all.
            tell: gets tickets as soon as they are given, before a verdict of theirs is drained.

        Returns:
            Their tickets. Fewer than there are payloads: the time was over; the rest was not
            appended.

        Raises:
            Error: the producer has ended; tickets before it are in doubt.
        """
        deadline = time.monotonic() + timeout_s
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + timeout_s):
                await self._turn.acquire()
        except TimeoutError:
            return range(0)
        try:
            first, at = self._core.ring.last_ticket + 1, 0
            while at < len(payloads):
                # Looked at before it is tried: what is freed from then on ends the wait.
                before, used_bytes = self._core.ring.last_ticket, self._core.ring.used_bytes
                moved = self._put(payloads, at)
                if tell is not None and moved > at:
                    tell(range(before + 1, self._core.ring.last_ticket + 1))
                if moved == at and not await self._wait_for_room(used_bytes, deadline):
                    break
                at = moved
            # A verdict ring that nobody reads leaves out the seq of accepted events.
            self._link.drain()
            return range(first, self._core.ring.last_ticket + 1)
        finally:
            self._turn.release()

    def _put(self, payloads: bytes, at: int) -> int:
        """Append what there is room for; where the rest begins."""
        while True:
            ring = self._core.ring
            count, at, _ = ring.append_payloads(payloads, at)
            if count or at == len(payloads):
                return at
            self._core.check()
            if ring is self._core.ring:
                return at

    async def _wait_for_room(self, used_bytes: int, deadline: float) -> bool:
        """Wait until less of the ring is used than that; False: the time was over."""
        core = self._core
        try:
            await self._link.wait(
                lambda: core.ring.used_bytes < used_bytes,
                deadline - time.monotonic(),
                give_up=LateError,
            )
        except LateError:
            return False
        return True

    @property
    def settled_ticket(self) -> int:
        """The last ticket whose verdict is out, and those of all before it."""
        return self._core.receipts.settled

    async def settled(self, ticket: int, timeout_s: float) -> None:
        """Wait until this ticket and all before it have their verdicts.

        Raises:
            LateError: not within the time; they are in doubt.
            Error: the producer has ended; they are in doubt.
        """
        core = self._core
        await self._link.wait(
            lambda: core.receipts.settled >= ticket, timeout_s, ticket=ticket, give_up=LateError
        )
        # The caller asks for runs; a list of rejections that nobody takes would only grow.
        core.receipts.tell_rejections(core.receipts.settled)

    def runs(self, tickets: range) -> Iterator[Run]:
        """Yield what became of settled tickets, in order.

        Raises:
            LookupError: it is no longer known of all of them.
        """
        for count, receipt in self._core.receipts.runs(tickets.start, tickets.stop - 1):
            yield Run(count, receipt)

    async def close(self, timeout_s: float) -> bool:
        """Settle everything and say goodbye; False: not everything was settled in time."""
        core = self._core
        if core.closed:
            return not core.unsettled()
        core.close()
        last = core.ring.last_ticket
        try:
            await self._link.wait(
                lambda: core.receipts.settled >= last,
                timeout_s,
                ticket=last,
                closing=True,
                give_up=LateError,
            )
        except (LateError, Error):
            return False
        finally:
            await self._link.stop(goodbye=not core.unsettled())
        return True
