"""One producer process of a load: offers what is due, and says when it became durable.

    python -m certeus_bench.load.producer '{"socket": ..., "plan": {...}, ...}'

Nothing here waits where it cannot be helped: what is due goes into the ring in one call, as far as
there is room; the wait that follows ends with the verdict on the oldest batch, or after a tick in
which more has become due. A tick is a batch: at 25,000/s, 25 events a millisecond. What waiting for
it costs an event is in its latency, since that begins when the event was due.
"""

import os
import sys
import time
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Protocol

import msgspec

import certeus
from certeus import Event
from certeus_bench import loops
from certeus_bench.load.profile import Profile, rows
from certeus_bench.load.progress import Page, Word
from certeus_bench.load.schedule import Line, Numbers, Plan
from certeus_bench.load.tally import Tally
from certeus_bench.peers.producing import keep_still

BATCH_MAX = 2048
TICK_SECONDS = 0.001
TICK_SHARED_BY = 4
"""More producers than that take longer ticks: together they wake no more often."""
IDLE_SECONDS_MAX = 0.05
TYPE = "reading"
CLOSE_SECONDS = 1.0


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a producer is told."""

    socket: str
    source: str
    page: str
    plan: Plan
    worker: int
    workers: int
    profile: Profile
    event_bytes: int
    ring_bytes: int
    seed: int
    counted_from_seconds: float
    interval_seconds: float
    settle_seconds: float
    """After the last event is due, so long for the rest to be sent and settled."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What it says at its end. Times are since the start."""

    source: str
    due: int
    sent: int
    settled: int
    accepted: int
    duplicates: int
    rejected: int
    resent: int
    operations: int
    """Due after the ramp, and durable."""
    bytes: int
    """Of their payload."""
    written_sum: int
    """CRC-32 of each payload that was settled, added up."""
    histogram: str
    late: str
    """The same kind of histogram of how late events were offered: our own part of the latency."""
    intervals: list[int]
    last_ns: int
    timer_ns: int
    cpu_seconds: float
    """Of this process, from the end of the ramp on."""
    ring_full_seconds: float


class Sink(Protocol):
    """What of a `certeus.Producer` is used."""

    def append_many(
        self, type: str, rows: list[bytes | Event], *, timeout: float | None = None
    ) -> int: ...

    def wait_durable(self, ticket: int, timeout: float | None = None) -> None: ...

    def statistics(self) -> certeus.Statistics: ...


class Offering:
    """A line's events on their way into a ring; one `turn` and one `wait` after the other."""

    def __init__(
        self,
        sink: Sink,
        line: Line,
        items: list[bytes | Event],
        tallies: tuple[Tally, Tally],
        elapsed_ns: Callable[[], int],
    ) -> None:
        self._sink = sink
        self._line = line
        self._period = len(items)
        self._items = items * (1 + -(-BATCH_MAX // len(items)))  # a batch from any of them
        self._sent, self._durable = tallies
        self._elapsed_ns = elapsed_ns
        self._batches: deque[int] = deque()
        self._full_since_ns = 0
        self.due = 0
        self.ring_full_ns = 0
        self.ring_used_bytes = 0

    @property
    def sent(self) -> int:
        """Events in the ring, or out of it again."""
        return self._sent.position

    @property
    def settled(self) -> int:
        """Events with a verdict."""
        return self._durable.position

    def is_done(self) -> bool:
        """Whether all is sent and settled."""
        return self._line.is_whole(self.sent) and self.settled == self.sent

    def turn(self) -> None:
        """Offer what is due, as far as there is room, and look what has become durable."""
        now_ns = self._elapsed_ns()
        self.due = self._line.due(now_ns)
        if self.due > self.sent:
            self._offer(now_ns)
        told = self._sink.statistics()
        self._durable.reach(told.settled, self._elapsed_ns())
        self.ring_used_bytes = told.ring_used_bytes
        self._line.forget(self.settled)
        while self._batches and self._batches[0] <= self.settled:
            self._batches.popleft()

    def wait(self, tick_seconds: float) -> None:
        """Until the oldest batch is durable, but no longer than a tick; idle, until more is due."""
        if self._batches:
            with suppress(TimeoutError, certeus.RejectedError):  # the statistics tell both
                self._sink.wait_durable(self._batches[0], timeout=tick_seconds)
            return
        next_ns = self._line.times_ns(self.sent, self.sent + 1)
        idle_ns = int(next_ns[0]) - self._elapsed_ns() if len(next_ns) else 0
        time.sleep(min(max(idle_ns / 1e9, tick_seconds), IDLE_SECONDS_MAX))

    def stop(self) -> None:
        """Offer nothing more than what is sent."""
        self._line.cut(self.sent)

    def _offer(self, now_ns: int) -> None:
        begin = self.sent % self._period
        count = min(self.due - self.sent, BATCH_MAX)
        try:
            last = self._sink.append_many(TYPE, self._items[begin : begin + count], timeout=0.0)
        except certeus.RingFullError as full:
            last = int(getattr(full, "last_ticket", self.sent))
        sent_ns = self._elapsed_ns()
        if self._full_since_ns:
            self.ring_full_ns += sent_ns - self._full_since_ns
        self._full_since_ns = sent_ns if last < self.sent + count else 0
        if last > self.sent:
            self._batches.append(last)
            self._sent.reach(last, sent_ns)


def sums_of(payloads: Sequence[bytes], count: int, of: Callable[[bytes], int]) -> int:
    """A number of each of the first ``count`` payloads of a cycle, added up."""
    sums = [0, *accumulate(map(of, payloads))]
    rounds, rest = divmod(count, len(payloads))
    return rounds * sums[-1] + sums[rest]


def publish(row: Numbers, offering: Offering) -> None:
    """What the watcher sees."""
    row[Word.DUE] = offering.due
    row[Word.SENT] = offering.sent
    row[Word.SETTLED] = offering.settled
    row[Word.RING_FULL_NS] = offering.ring_full_ns
    row[Word.RING_USED_BYTES] = offering.ring_used_bytes


def run(order: Order, producer: certeus.Producer) -> Report:
    """Offer everything, from the time on that is read from standard input."""
    made = rows(order.profile, order.event_bytes, order.seed, order.worker)
    line = Line(order.plan, order.worker, order.workers, bursts=order.profile is Profile.BURSTY)
    counted_from_ns = round(order.counted_from_seconds * 1e9)
    interval_ns = round(order.interval_seconds * 1e9)
    sent, durable = (Tally(line, counted_from_ns, interval_ns) for _ in range(2))
    page = Page(Path(order.page))
    row = page.row(order.worker)
    row[Word.PID] = os.getpid()
    items = made.items()
    timer_ns = loops.timer_ns()
    print("ready", flush=True)
    begin_ns = int(sys.stdin.readline())
    time.sleep(max(0, begin_ns - time.monotonic_ns()) / 1e9)

    def elapsed_ns() -> int:
        return time.monotonic_ns() - begin_ns

    offering = Offering(producer, line, items, (sent, durable), elapsed_ns)
    tick_seconds = TICK_SECONDS * max(1.0, order.workers / TICK_SHARED_BY)
    deadline_ns = round((order.plan.seconds + order.settle_seconds) * 1e9)
    cpu_before_ns = 0
    stopped = False
    while not offering.is_done() and (now_ns := elapsed_ns()) < deadline_ns:
        if not cpu_before_ns and now_ns >= counted_from_ns:
            cpu_before_ns = time.process_time_ns()
        if not stopped and page.is_stopped():
            stopped = True
            offering.stop()
            deadline_ns = now_ns + round(order.settle_seconds * 1e9)
        offering.turn()
        publish(row, offering)
        offering.wait(tick_seconds)
    cpu_seconds = (time.process_time_ns() - cpu_before_ns) / 1e9
    keep_still()
    told = producer.statistics()
    skipped = durable.position - durable.operations
    sizes = (sums_of(made.payloads, count, len) for count in (durable.position, skipped))
    return Report(
        source=order.source,
        due=offering.due,
        sent=offering.sent,
        settled=offering.settled,
        accepted=told.accepted,
        duplicates=told.duplicates,
        rejected=told.rejected,
        resent=told.resent,
        operations=durable.operations,
        bytes=next(sizes) - next(sizes),
        written_sum=sums_of(made.payloads, durable.position, zlib.crc32) % 2**64,
        histogram=durable.histogram(),
        late=sent.histogram(),
        intervals=durable.intervals,
        last_ns=durable.last_ns,
        timer_ns=timer_ns,
        cpu_seconds=cpu_seconds,
        ring_full_seconds=offering.ring_full_ns / 1e9,
    )


def main() -> None:
    """Print one report."""
    order = msgspec.json.decode(sys.argv[1], type=Order)
    producer = certeus.connect(order.socket, source=order.source, ring_bytes=order.ring_bytes)
    report = run(order, producer)
    with suppress(certeus.InDoubtError, certeus.RejectedError):  # the report counts both
        producer.close(CLOSE_SECONDS)
    sys.stdout.buffer.write(msgspec.json.encode(report))


if __name__ == "__main__":
    main()
