"""One producer process of a soak, sync or async, until it is told to stop, or killed.

Run as ``python -m support.soak_producer SOCKET FOLDER LIFE SOURCE FLAGS PREDECESSOR``; the flags
are ``ids`` and ``async``, joined. What it learns it notes in its page (``soak_page.py``) before it
goes on. A life with ids first offers again what its killed predecessor may have had in flight.
"""

import asyncio
import select
import signal
import sys
import time
import zlib
from pathlib import Path

import certeus
from certeusd.pdeathsig import set_parent_death_signal
from support.soak_events import TYPE, event
from support.soak_page import TICKETS_MAX, Field, LifePage, Shared, State, Told

WINDOW = 600
"""Events that may be unsettled."""
SETTLED_AGAIN = 40
"""So many events that its predecessor knew as settled are offered again, too."""
WAIT_S = 0.25
CONNECT_S = 120.0
VERDICTS = {
    certeus.Verdict.ACCEPTED: Told.ACCEPTED,
    certeus.Verdict.DUPLICATE: Told.DUPLICATE,
    certeus.Verdict.REJECTED: Told.REJECTED,
}


class Life:
    """What to append next, and what became of it."""

    def __init__(self, folder: Path, life: int, source: str, flags: str, before: int) -> None:
        self.page = Shared.page(folder)
        self.mine = LifePage(folder, life)
        self.life = life
        self.source = source
        self.with_ids = "ids" in flags
        self.before = before
        self.appended = 0
        self.settled = 0
        self.base = self.page.get(Field.GRANTED)
        self.mine.set(Field.BASE, self.base)
        self.again = range(0)
        if before and self.with_ids:
            old = LifePage(folder, before)
            first = max(1, old.get(Field.SETTLED) - old_resent(old) - SETTLED_AGAIN)
            last = old.get(Field.INTENDED) - old_resent(old)
            if last >= first:
                self.again = range(first, last + 1)
                self.mine.set(Field.RESENT_FROM, first)
                self.mine.set(Field.RESENT_TO, last)
            old.close()

    def wants(self) -> int:
        """How many events to append now."""
        granted = self.page.get(Field.GRANTED) - self.base + len(self.again)
        room = min(granted, TICKETS_MAX - 2, self.settled + WINDOW) - self.appended
        return min(max(room, 0), 1 + zlib.crc32(b"%d %d" % (self.life, self.appended)) % 500)

    def next_events(self, count: int) -> list[certeus.Event]:
        first = self.appended + 1
        self.mine.set(Field.INTENDED, self.appended + count)
        return [self._event(ticket) for ticket in range(first, first + count)]

    def _event(self, ticket: int) -> certeus.Event:
        if ticket <= len(self.again):
            return event(self.source, self.before, self.again[ticket - 1], True)
        return event(self.source, self.life, ticket - len(self.again), self.with_ids)

    def note_appended(self, last: int) -> None:
        self.appended = last
        self.mine.set(Field.APPENDED, last)

    def note_settled(self, producer: certeus.Producer | certeus.AsyncProducer) -> None:
        """Everything that is known of newly settled tickets, then the mark."""
        settled = producer.statistics().settled
        for ticket in range(self.settled + 1, settled + 1):
            try:
                receipt = producer.receipt(ticket)
            except LookupError:
                self.mine.note(ticket, Told.ACCEPTED_WITHOUT_RECEIPT, 0)
            else:
                self.mine.note(ticket, VERDICTS[receipt.verdict], receipt.seq)
        self.settled = settled
        self.mine.set(Field.SETTLED, settled)

    def note_told(self, error: certeus.RejectedError) -> None:
        assert error.count == len(error.rejections), "rejections were counted instead of told"
        for rejection in error.rejections:
            self.mine.tell(rejection.ticket)

    def note_end(self, producer: certeus.Producer | certeus.AsyncProducer) -> None:
        self.note_settled(producer)
        self.mine.set(Field.RECONNECTS, producer.statistics().reconnects)
        self.mine.set(Field.STATE, State.CLOSED)

    @property
    def stopped(self) -> bool:
        return bool(self.page.get(Field.STOP))


def old_resent(page: LifePage) -> int:
    """How many of a life's first tickets were its predecessor's events."""
    first = page.get(Field.RESENT_FROM)
    return page.get(Field.RESENT_TO) - first + 1 if first else 0


def again_soon(error: certeus.ConnectError) -> None:
    """A first hello is never repeated by the library; here the daemon may be away just now."""
    if error.reason not in ("unreachable", "hello-timeout", "draining"):
        raise error


def connected(socket: str, source: str) -> certeus.Producer:
    deadline = time.monotonic() + CONNECT_S
    while True:
        try:
            return certeus.connect(socket, source=source, timeout=10.0)
        except certeus.ConnectError as error:
            again_soon(error)
            assert time.monotonic() < deadline, f"no session within {CONNECT_S} s"
        pause()


async def connected_async(socket: str, source: str) -> certeus.AsyncProducer:
    deadline = time.monotonic() + CONNECT_S
    while True:
        try:
            return await certeus.connect_async(socket, source=source, timeout=10.0)
        except certeus.ConnectError as error:
            again_soon(error)
            assert time.monotonic() < deadline, f"no session within {CONNECT_S} s"
        await asyncio.sleep(0.002)


def pause() -> None:
    select.select([], [], [], 0.002)


def produce(socket: str, life: Life) -> None:
    """The sync producer."""
    producer = connected(socket, life.source)
    life.mine.set(Field.STATE, State.LIVE)
    while not life.stopped:
        count = life.wants()
        if count:
            life.note_appended(producer.append_many(TYPE, life.next_events(count)))
        elif life.settled < life.appended:
            try:
                producer.wait_durable(min(life.settled + 100, life.appended), timeout=WAIT_S)
            except certeus.RejectedError as error:
                life.note_told(error)
            except TimeoutError:
                pass
        else:
            pause()
        life.note_settled(producer)
    try:
        producer.close(timeout=CONNECT_S)
    except certeus.RejectedError as error:
        life.note_told(error)
    life.note_end(producer)


async def produce_async(socket: str, life: Life) -> None:
    """The async producer; the same, in an event loop."""
    producer = await connected_async(socket, life.source)
    life.mine.set(Field.STATE, State.LIVE)
    while not life.stopped:
        count = life.wants()
        if count:
            life.note_appended(await producer.append_many(TYPE, life.next_events(count)))
            await asyncio.sleep(0)
        elif life.settled < life.appended:
            try:
                mark = min(life.settled + 100, life.appended)
                await producer.wait_durable(mark, timeout=WAIT_S)
            except certeus.RejectedError as error:
                life.note_told(error)
            except TimeoutError:
                pass
        else:
            await asyncio.sleep(0.002)
        life.note_settled(producer)
    try:
        await producer.close(timeout=CONNECT_S)
    except certeus.RejectedError as error:
        life.note_told(error)
    life.note_end(producer)


def main(socket: str, folder: str, life: str, source: str, flags: str, before: str) -> None:
    made = Life(Path(folder), int(life), source, flags, int(before))
    if "async" in flags:
        asyncio.run(produce_async(socket, made))
    else:
        produce(socket, made)


if __name__ == "__main__":
    # Its harness may be killed, at a time-out: nobody else would ever end it.
    set_parent_death_signal(signal.SIGKILL)
    main(*sys.argv[1:])
