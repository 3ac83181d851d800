"""The ring of a session against a model: the smallest one, so that it wraps and fills often."""

import os
from collections import deque

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from certeus import _native

EVENT_BYTES_MAX = 6000
PREFIX_BYTES = 8


def memfd(name: str, size: int) -> int:
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    os.ftruncate(fd, size)
    return fd


class Session:
    """P, C and E of one session, and both sides of it."""

    def __init__(self, last_ticket: int) -> None:
        ring_bytes = _native.RING_BYTES_MIN
        p = memfd("p", _native.PAGE_BYTES + ring_bytes)
        c = memfd("c", _native.C_BYTES)
        e = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        for at, word in ((0, b"certeus1"), (8, b"\1"), (16, ring_bytes.to_bytes(8, "little"))):
            os.pwrite(p, word, at)
        self.consumer = _native.Consumer(p, c, ring_bytes)
        if last_ticket:
            self.consumer.publish(last_ticket)
        self.ring = _native.Ring(p, c, e, ring_bytes, last_ticket, EVENT_BYTES_MAX)
        for fd in (p, c, e):
            os.close(fd)


class RingMachine(RuleBasedStateMachine):
    """Append, consume, settle, release and resume, in any order that the two sides may take."""

    def __init__(self) -> None:
        super().__init__()
        self.session = Session(0)
        self.unsettled: deque[tuple[int, bytes]] = deque()
        self.unread: deque[tuple[int, bytes]] = deque()
        self.last = 0
        self.settled = 0

    @rule(size=st.integers(0, EVENT_BYTES_MAX), byte=st.integers(0, 255))
    def append(self, size: int, byte: int) -> None:
        data = bytes([byte]) * size
        ticket = self.session.ring.append("t", data)
        if ticket:
            assert ticket == self.last + 1
            self.last = ticket
            self.unsettled.append((ticket, data))
            self.unread.append((ticket, data))
        else:
            assert self.unsettled, "an empty ring takes everything"

    @rule()
    def consume(self) -> None:
        frames = self.session.consumer.read()
        assert [ticket for ticket, _ in frames] == [ticket for ticket, _ in self.unread]
        for (_, payload), (_, data) in zip(frames, self.unread, strict=True):
            attributes = int.from_bytes(payload[:4], "little")
            assert payload[PREFIX_BYTES + attributes :] == data
        self.unread.clear()

    @precondition(lambda self: len(self.unsettled) > len(self.unread))
    @rule(share=st.floats(0, 1))
    def settle(self, share: float) -> None:
        count = max(1, round(share * (len(self.unsettled) - len(self.unread))))
        first = self.unsettled[0][0]
        consumer = self.session.consumer
        if consumer.room() == 0:
            return
        consumer.push(first, "accepted", seq=first, group=1, count=count)
        self.settled = first + count - 1
        consumer.publish(self.settled)
        consumer.release(self.settled)
        for _ in range(count):
            self.unsettled.popleft()

    @rule()
    def drain_verdicts(self) -> None:
        settled, entries = self.session.ring.drain()
        assert settled == self.settled
        tickets = [t for first, count, *_ in entries for t in range(first, first + count)]
        assert tickets == sorted(set(tickets))
        assert not tickets or tickets[-1] == settled

    @rule(decided=st.floats(0, 1))
    def resume(self, decided: float) -> None:
        """The daemon died with some tickets decided that the client has not heard of."""
        self.session.ring.drain()
        high = self.settled + round(decided * len(self.unsettled))
        session = Session(high)
        offered = session.ring.adopt_unsettled(self.session.ring, high)
        self.session = session
        self.settled = high
        while self.unsettled and self.unsettled[0][0] <= high:
            self.unsettled.popleft()
        self.unread = deque(self.unsettled)
        assert offered == len(self.unsettled)

    @invariant()
    def nothing_is_lost(self) -> None:
        assert self.session.ring.last_ticket == self.last


TestRingMachine = RingMachine.TestCase
TestRingMachine.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
