"""Measuring loops in Python, for what takes microseconds at least: disks, sockets, servers.

A loop takes one reading of the clock before and one after each operation, and nothing else: times
are kept as they are and counted into a histogram afterwards.
"""

import time
from array import array
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from certeus_bench import histogram
from certeus_bench.results import Loop, Measurement
from certeus_bench.scenario import Context

INTERVAL_SECONDS = 0.1
TIMER_READINGS = 10_000

Numbers = npt.NDArray[np.int64]


def timer_ns() -> int:
    """The smallest step between two readings of the clock that a loop uses, as measured here."""
    readings = [time.perf_counter_ns() for _ in range(TIMER_READINGS)]
    steps = np.diff(np.array(readings, dtype=np.int64))
    return int(steps[steps > 0].min())


def closed(operate: Callable[[], object], context: Context, bytes_each: int = 0) -> Measurement:
    """One operation after the other until the time is over; the last one begun still counts."""
    clock = time.perf_counter_ns
    warm = clock() + int(context.warmup_seconds * 1e9)
    while clock() < warm:
        operate()
    begun, ended = array("q"), array("q")
    cpu = time.process_time()
    begin = now = clock()
    end = begin + int(context.seconds * 1e9)
    while now < end:
        begun.append(now)
        operate()
        now = clock()
        ended.append(now)
    cpu = time.process_time() - cpu
    begins, ends = np.array(begun, dtype=np.int64), np.array(ended, dtype=np.int64)
    return Measurement(
        operations=len(ended),
        seconds=(now - begin) / 1e9,
        warmup_seconds=context.warmup_seconds,
        bytes_each=bytes_each,
        loop=Loop.CLOSED,
        concurrency=1,
        histogram=histogram_of(ends - begins),
        timer_ns=timer_ns(),
        intervals=intervals_of(ends - begin),
        interval_seconds=INTERVAL_SECONDS,
        cpu_seconds=cpu,
    )


def histogram_of(times_ns: Numbers) -> str:
    """Times, in any order, as the text that a measurement carries."""
    made = histogram.empty()
    values, counts = np.unique(times_ns, return_counts=True)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        histogram.record(made, value, count)
    return histogram.encode(made)


def intervals_of(ended_ns: Numbers) -> list[int]:
    """How many operations ended in each interval, by their times since the beginning."""
    counted: list[int] = np.bincount(ended_ns // int(INTERVAL_SECONDS * 1e9)).tolist()
    return counted
