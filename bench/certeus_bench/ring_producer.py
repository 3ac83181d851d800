"""One Python process that appends to a ring, as fast as it goes or with a look at each call.

    python -m certeus_bench.ring_producer '{"socket": ..., "call": "append_many", ...}'

Rows are made before the first append. Prints `Produced`, or with ``timed`` a `Measurement` of what
single calls took.
"""

import array
import itertools
import json
import os
import resource
import sys
import time

import msgspec

import certeus
from certeus.event import Data
from certeus.producer import Producer
from certeus_bench import histogram
from certeus_bench.native import Produced
from certeus_bench.results import Measurement
from certeus_bench.rows import make_rows
from certeus_bench.word_sum import WRAP, total_sum, word_sum

BATCH_ROWS = 512
"""What `append_many` is given at once, and rows between two looks at the clock."""
TIMER_READINGS = 10_000


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The program's only argument."""

    socket: str
    cpu: int
    seconds: float
    payload_bytes: int = 100
    ring_bytes: int = 4 << 20
    call: str = "append_many"
    """``append_many`` or ``append``."""
    data: str = "bytes"
    """``bytes``: encoded JSON; ``dict``: encoded by the call."""
    timed: bool = False
    """Look at the clock before and after each call."""


def make_data(settings: Settings) -> tuple[list[Data], list[int]]:
    """Return what is appended in turn, and the sum of each."""
    texts = make_rows(settings.payload_bytes, seed=0)
    data: list[Data] = [*map(json.loads, texts)] if settings.data == "dict" else [*texts]
    return data, [word_sum(text) for text in texts]


def produce(producer: Producer, settings: Settings, rows: list[Data]) -> int:
    """Append until the time is over; how many that were."""
    batches = [rows[start : start + BATCH_ROWS] for start in range(0, len(rows), BATCH_ROWS)]
    many = settings.call == "append_many"
    count = 0
    deadline = time.perf_counter() + settings.seconds
    for batch in itertools.cycle(batches):
        if many:
            producer.append_many("reading", batch)
        else:
            for row in batch:
                producer.append("reading", row)
        count += len(batch)
        if time.perf_counter() >= deadline:
            break
    return count


def time_calls(
    producer: Producer, settings: Settings, rows: list[Data], sums: list[int]
) -> Measurement:
    """Append one row a call, each between two readings of the clock."""
    clock, append = time.perf_counter_ns, producer.append
    warmed = produce(producer, settings, rows)
    times = array.array("Q")
    began, cpu = clock(), _cpu_seconds()
    deadline = began + int(settings.seconds * 1e9)
    after = began
    for row in itertools.cycle(rows):
        before = clock()
        append("reading", row)
        after = clock()
        times.append(after - before)
        if after >= deadline:
            break
    seconds, cpu = (after - began) / 1e9, _cpu_seconds() - cpu
    taken = histogram.empty()
    for time_ns in times:
        histogram.record(taken, time_ns)
    return Measurement(
        operations=len(times),
        seconds=seconds,
        warmup_seconds=settings.seconds,
        bytes_each=settings.payload_bytes,
        concurrency=1,
        histogram=histogram.encode(taken),
        timer_ns=_timer_ns(),
        written_sum=(total_sum(sums, warmed) + total_sum(sums, len(times))) % WRAP,
        cpu_seconds=cpu,
    )


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _timer_ns() -> int:
    readings = [time.perf_counter_ns() for _ in range(TIMER_READINGS)]
    return min(after - before for before, after in itertools.pairwise(readings) if after > before)


def main() -> None:
    """Append, settle everything, tell."""
    settings = msgspec.json.decode(sys.argv[1], type=Settings)
    rows, sums = make_data(settings)
    os.sched_setaffinity(0, {settings.cpu})
    with certeus.connect(
        settings.socket, source="bench", ring_bytes=settings.ring_bytes
    ) as producer:
        told: Measurement | Produced
        if settings.timed:
            told = time_calls(producer, settings, rows, sums)
        else:
            count = produce(producer, settings, rows)
            told = Produced(events=count, written_sum=total_sum(sums, count))
    sys.stdout.buffer.write(msgspec.json.encode(told))


if __name__ == "__main__":
    main()
