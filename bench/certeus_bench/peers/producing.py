"""The side of a measurement that offers events to a peer, whichever peer it is.

Runs in a process of its own, by the interpreter that has the peer's client: it needs the standard
library alone. The program connects, says ``ready``, reads from its standard input when to begin (on
the monotonic clock, which all processes of a machine share), offers rows in their order, again and
again, and says ``done`` when the last of them is acknowledged. When it is asked, by another line or
the end of its input, it prints one JSON object.
"""

import argparse
import json
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate, pairwise
from typing import TypeVar

from certeus_bench.rows import make_rows

INTERVAL_SECONDS = 0.5
TIMER_SAMPLES = 2000

T = TypeVar("T")


def batches(items: list[T], size: int) -> Iterator[list[T]]:
    """The same items in the same order, again and again, ``size`` at a time, for ever."""
    around = items * (1 + -(-size // len(items)))
    begin = 0
    while True:
        yield around[begin : begin + size]
        begin = (begin + size) % len(items)


class Tally:
    """What one peer has acknowledged to this process, and when."""

    def __init__(self, begin_ns: int, warmup_seconds: float, seconds: float) -> None:
        self.counted_from_ns = begin_ns + round(warmup_seconds * 1e9)
        self._until_ns = self.counted_from_ns + round(seconds * 1e9)
        self._last_ns = self.counted_from_ns
        self._intervals = [0] * int(seconds / INTERVAL_SECONDS)
        self._operations = 0
        self._cpu_before_ns: int | None = None
        self.acknowledged = 0
        """All of them, warm-up included."""
        self.times_ns: list[int] = []
        self.events_each = 1
        """That one of these times is of."""

    def goes_on(self) -> bool:
        """Whether more may be offered."""
        return time.monotonic_ns() < self._until_ns

    def add(self, count: int, begin_ns: int) -> None:
        """``count`` more were acknowledged just now; they were offered at ``begin_ns``.

        Of a batch that was on its way when the warm-up ended, the part after that is counted.
        """
        now = time.monotonic_ns()
        self.acknowledged += count
        elapsed_ns = now - self.counted_from_ns
        if elapsed_ns < 0:
            return
        if begin_ns < self.counted_from_ns:
            count = count * elapsed_ns // (now - begin_ns)
        if self._cpu_before_ns is None:
            self._cpu_before_ns = time.process_time_ns()
        self._operations += count
        self._last_ns = now
        index = int(elapsed_ns / 1e9 / INTERVAL_SECONDS)
        self._intervals.extend([0] * (index + 1 - len(self._intervals)))
        self._intervals[index] += count

    def add_timed(self, begin_ns: int) -> None:
        """One more was acknowledged just now; it was offered at ``begin_ns``."""
        elapsed_ns = time.monotonic_ns() - begin_ns
        if begin_ns >= self.counted_from_ns:
            self.times_ns.append(elapsed_ns)
        self.add(1, begin_ns)

    def report(self, written_sum: int) -> dict[str, object]:
        """What the runner is told."""
        before_ns = self._cpu_before_ns or 0
        return {
            "operations": self._operations,
            "acknowledged": self.acknowledged,
            "counted_from_ns": self.counted_from_ns,
            "last_ns": self._last_ns,
            "intervals": self._intervals,
            "written_sum": written_sum,
            "cpu_seconds": (time.process_time_ns() - before_ns) / 1e9,
            "times_ns": self.times_ns,
            "events_each": self.events_each,
            "timer_ns": timer_ns(),
        }


def timer_ns() -> int:
    """The least difference between two readings of the clock that differ."""
    readings = [time.monotonic_ns() for _ in range(TIMER_SAMPLES)]
    steps = (later - earlier for earlier, later in pairwise(readings))
    return min((step for step in steps if step), default=0)


def checksum(payloads: Iterable[bytes]) -> int:
    """CRC-32 of each payload, added up (u64): says that all are there, whole, in whatever order."""
    return sum(map(zlib.crc32, payloads)) % 2**64


def written_sum(rows: list[bytes], count: int) -> int:
    """The checksum of the first ``count`` rows of a cycle."""
    sums = [0, *accumulate(map(zlib.crc32, rows))]
    rounds, rest = divmod(count, len(rows))
    return (rounds * sums[-1] + sums[rest]) % 2**64


def parser(description: str | None) -> argparse.ArgumentParser:
    """What every program is told; each adds what its peer needs."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--bytes", type=int, default=200)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--warmup-seconds", type=float, default=1.0)
    made.add_argument("--seconds", type=float, default=5.0)
    made.add_argument("--batch", type=int, default=1, help="events on their way at once")
    made.add_argument("--read", action="store_true", help="read all that is there instead")
    return made


def begin(options: argparse.Namespace) -> Tally:
    """Say that all is connected, wait for the others, and start the clock."""
    print("ready", flush=True)
    begin_ns = int(sys.stdin.readline())
    time.sleep(max(0, begin_ns - time.monotonic_ns()) / 1e9)
    return Tally(begin_ns, options.warmup_seconds, options.seconds)


def keep_still() -> None:
    """Say that the work is done, and wait until it is for all who share the processors."""
    print("done", flush=True)
    sys.stdin.readline()


def finish(tally: Tally, rows: list[bytes]) -> None:
    """Print what happened, when asked; every row that was offered has been acknowledged."""
    keep_still()
    json.dump(tally.report(written_sum(rows, tally.acknowledged)), sys.stdout)


def produce(
    options: argparse.Namespace,
    prepare: Callable[[int, bytes], T],
    send: Callable[[list[T]], object],
) -> None:
    """Offer batch after batch.

    Args:
        options: of `parser`; batches of one are timed, each.
        prepare: makes what is sent from a row and its number, before the clock starts.
        send: returns when all of a batch are acknowledged.
    """
    rows = make_rows(options.bytes, options.seed)
    cycle = batches([prepare(number, row) for number, row in enumerate(rows)], options.batch)
    tally = begin(options)
    while tally.goes_on():
        batch = next(cycle)
        begin_ns = time.monotonic_ns()
        send(batch)
        if options.batch == 1:
            tally.add_timed(begin_ns)
        else:
            tally.add(options.batch, begin_ns)
    finish(tally, rows)


def read_back(payloads: Iterable[bytes]) -> None:
    """Print how many payloads a peer holds, and their checksum."""
    total = count = 0
    for payload in payloads:
        total += zlib.crc32(payload)
        count += 1
    json.dump({"count": count, "read_sum": total % 2**64}, sys.stdout)
