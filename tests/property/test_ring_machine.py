"""The ring of a session against a model: the smallest one, so that it wraps and fills often.

Both sides take steps in any order: bulk and single appends, a write that stops before its tail, a
consumer that reads late, verdicts of every kind up to a full verdict ring, bells, and the daemon's
death with some tickets decided that the client has not heard of.
"""

import mmap
import os
from collections import deque

import hypothesis
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    get_state_machine_test,
    invariant,
    precondition,
    rule,
)

from certeus import _native
from support.attack import Attack, Outcome

EVENT_BYTES_MAX = 6000
PREFIX_BYTES = 8
TAIL, HEAD = 128, 128
FRAME_ALIGN = 16
RING_BYTES = _native.RING_BYTES_MIN
STEPS = 60
VERDICTS = (("accepted", ""), ("duplicate", ""), ("rejected", "invalid-json"))


def memfd(name: str, size: int) -> int:
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    os.ftruncate(fd, size)
    return fd


class Session:
    """P, C and E of one session, and both sides of it."""

    def __init__(self, last_ticket: int) -> None:
        p = memfd("p", _native.PAGE_BYTES + RING_BYTES)
        c = memfd("c", _native.C_BYTES)
        e = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        for at, word in ((0, b"certeus1"), (8, b"\1"), (16, RING_BYTES.to_bytes(8, "little"))):
            os.pwrite(p, word, at)
        self.consumer = _native.Consumer(p, c, RING_BYTES)
        if last_ticket:
            self.consumer.publish(last_ticket)
        self.ring = _native.Ring(p, c, e, RING_BYTES, last_ticket, EVENT_BYTES_MAX)
        self.p = mmap.mmap(p, _native.PAGE_BYTES + RING_BYTES)
        self.c = mmap.mmap(c, _native.PAGE_BYTES)
        for fd in (p, c, e):
            os.close(fd)

    @property
    def tail(self) -> int:
        return int.from_bytes(self.p[TAIL : TAIL + 8], "little")

    @property
    def head(self) -> int:
        return int.from_bytes(self.c[HEAD : HEAD + 8], "little")


class RingMachine(RuleBasedStateMachine):
    """Append, consume, settle, release and resume, in any order that the two sides may take."""

    examples = 0
    tickets = 0
    wraps = 0
    full_verdict_rings = 0

    def __init__(self) -> None:
        super().__init__()
        self.session = Session(0)
        self.unsettled: deque[tuple[int, bytes]] = deque()
        self.unread: deque[tuple[int, bytes]] = deque()
        self.told: dict[int, tuple[str, int, str]] = {}
        """What was pushed for a ticket in this session: verdict, seq, reason."""
        self.last = 0
        self.settled = 0
        self.wanted: int | None = None

    def _appended(self, ticket: int, data: bytes) -> None:
        assert ticket == self.last + 1
        self.last = ticket
        self.unsettled.append((ticket, data))
        self.unread.append((ticket, data))

    @rule(size=st.integers(0, EVENT_BYTES_MAX), byte=st.integers(0, 255))
    def append(self, size: int, byte: int) -> None:
        data = bytes([byte]) * size
        ticket = self.session.ring.append("t", data)
        if ticket:
            self._appended(ticket, data)
        else:
            assert self.unsettled, "an empty ring takes everything"

    @rule(count=st.sampled_from((1, 7, 300, 2100)), size=st.sampled_from((0, 1, 40, 4000)))
    def append_many(self, count: int, size: int) -> None:
        rows = [b"%d" % number + b" " * size for number in range(count)]
        at = 0
        while at < count:
            done, last = self.session.ring.append_many("t", rows, at)
            assert done or self.unsettled, "an empty ring takes something"
            for data in rows[at : at + done]:
                self._appended(self.last + 1, data)
            assert last == self.last
            if not done:
                break
            at += done

    @rule(size=st.integers(1, 9000), byte=st.integers(0, 255))
    def die_in_mid_write(self, size: int, byte: int) -> None:
        """Bytes behind the tail are nothing: not to the consumer, not to the next append."""
        session = self.session
        free = RING_BYTES - (session.tail - session.head)
        for position in range(session.tail, session.tail + min(size, free), FRAME_ALIGN):
            at = _native.PAGE_BYTES + position % RING_BYTES
            session.p[at : at + FRAME_ALIGN] = bytes([byte]) * FRAME_ALIGN

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
        """One run of accepted tickets."""
        count = max(1, round(share * (len(self.unsettled) - len(self.unread))))
        if self.session.consumer.room() == 0:
            return
        first = self.unsettled[0][0]
        self.session.consumer.push(first, "accepted", seq=first, group=1, count=count)
        for ticket in range(first, first + count):
            self.told[ticket] = ("accepted", ticket, "")
        self._publish(first + count - 1)

    @precondition(lambda self: len(self.unsettled) > len(self.unread))
    @rule(share=st.floats(0, 1), which=st.integers(0, 99))
    def settle_one_by_one(self, share: float, which: int) -> None:
        """Verdicts of every kind, as long as the verdict ring has room; the rest waits."""
        count = max(1, round(share * (len(self.unsettled) - len(self.unread))))
        consumer = self.session.consumer
        last = 0
        for ticket, _ in list(self.unsettled)[:count]:
            if consumer.room() == 0:
                RingMachine.full_verdict_rings += 1
                break
            verdict, reason = VERDICTS[(ticket + which) % len(VERDICTS)]
            seq = ticket if verdict == "accepted" else 7
            consumer.push(ticket, verdict, seq=seq, group=1, count=1, reason=reason)
            self.told[ticket] = (verdict, seq, reason)
            last = ticket
        if last:
            self._publish(last)

    @rule(which=st.integers(0, 99))
    def leave_verdicts_unread(self, which: int) -> None:
        """More of them than their ring has room for."""
        self.append_many(2100, 0)
        self.consume()
        self.settle_one_by_one(1.0, which)

    def _publish(self, settled: int) -> None:
        self.settled = settled
        self.session.consumer.publish(settled)
        rung = self.session.consumer.release(settled)
        if self.wanted is not None and self.wanted <= settled:
            assert rung, "the producer waits for what is reached, and nobody rings"
            self.wanted = None
        while self.unsettled and self.unsettled[0][0] <= settled:
            self.unsettled.popleft()

    @rule()
    def drain_verdicts(self) -> None:
        settled, entries = self.session.ring.drain()
        assert settled == self.settled
        for first, count, seq, _, verdict, reason in entries:
            for ticket in range(first, first + count):
                there = seq + ticket - first if verdict == "accepted" else seq
                assert self.told.pop(ticket) == (verdict, there, reason)
        assert not self.told, f"verdicts that were pushed and never came: {self.told}"

    @rule(ahead=st.integers(1, 500))
    def wait_for_a_ticket(self, ahead: int) -> None:
        ticket = min(self.settled + ahead, self.last)
        if ticket:
            reached = self.session.ring.arm_settled(ticket)
            assert reached == (ticket <= self.settled)
            self.wanted = None if reached else ticket

    @rule(decided=st.floats(0, 1))
    def resume(self, decided: float) -> None:
        """The daemon died with some tickets decided that the client has not heard of."""
        self.drain_verdicts()
        RingMachine.wraps += self.session.tail // RING_BYTES
        high = self.settled + round(decided * len(self.unsettled))
        session = Session(high)
        offered = session.ring.adopt_unsettled(self.session.ring, high)
        assert not self.session.ring.open
        self.session = session
        self.settled = high
        self.wanted = None
        while self.unsettled and self.unsettled[0][0] <= high:
            self.unsettled.popleft()
        self.unread = deque(self.unsettled)
        assert offered == len(self.unsettled)

    @invariant()
    def nothing_is_lost(self) -> None:
        assert self.session.ring.last_ticket == self.last
        assert 0 <= self.session.tail - self.session.head <= RING_BYTES

    def teardown(self) -> None:
        self.consume()
        RingMachine.examples += 1
        RingMachine.tickets += self.last
        RingMachine.wraps += self.session.tail // RING_BYTES


@pytest.mark.crash
@pytest.mark.timeout(600)
def test_ring_agrees_with_its_model_in_any_order_of_steps(attack: Attack) -> None:
    RingMachine.examples = RingMachine.tickets = 0
    RingMachine.wraps = RingMachine.full_verdict_rings = 0
    chosen = settings(
        max_examples=attack.cases(60, 1500), stateful_step_count=STEPS, deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        database=None, print_blob=False,
    )  # fmt: skip
    hypothesis.seed(attack.seed)(get_state_machine_test(RingMachine, settings=chosen))()
    assert RingMachine.wraps, "no ring was ever full to its end"
    assert RingMachine.full_verdict_rings, "no verdict ring was ever full"
    attack.report(
        Outcome(f"ring against its model, {STEPS} steps", RingMachine.examples, RingMachine.tickets)
    )
