"""A load of producer processes on a peer, and the measurement that comes of it."""

import time
from collections.abc import Callable, Sequence
from itertools import zip_longest
from typing import NamedTuple, Protocol

import msgspec
import numpy as np

from certeus_bench import loops
from certeus_bench.peers import running
from certeus_bench.peers.producing import INTERVAL_SECONDS
from certeus_bench.results import Measurement
from certeus_bench.scenario import Context

PRODUCERS = 2


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What one producer says at its end (`producing.Tally.report`)."""

    operations: int
    acknowledged: int
    counted_from_ns: int
    last_ns: int
    intervals: list[int]
    written_sum: int
    cpu_seconds: float
    times_ns: list[int]
    events_each: int = 1
    timer_ns: int


class ReadBack(msgspec.Struct, frozen=True):
    """What a peer still holds when all is over."""

    count: int
    read_sum: int


def arguments(context: Context, event_bytes: int, seed: int, batch: int) -> list[str]:
    """What every producing program is told (`producing.parser`)."""
    return [
        "--bytes", str(event_bytes), "--seed", str(seed), "--batch", str(batch),
        "--warmup-seconds", str(context.warmup_seconds), "--seconds", str(context.seconds),
    ]  # fmt: skip


class Carrier(Protocol):
    """What brings events on to where they count, when producers do not know that they arrived."""

    def begin(self, begin_ns: int) -> None:
        """Producers begin then."""
        ...

    def finish(self, total: int) -> Report:
        """Producers have offered ``total``; return when all have arrived, and say what it saw."""
        ...


class Load(NamedTuple):
    """What all producers said, and what it cost."""

    reports: list[Report]
    carried: Report | None
    server_cpu_seconds: float


def offer(
    commands: Sequence[Sequence[str]],
    context: Context,
    spent: Callable[[], float],
    carrier: Carrier | None = None,
) -> Load:
    """Run producers, until the last of their events has arrived.

    Args:
        commands: of the producers.
        context: of the run.
        spent: processor time of the system under test so far, in seconds.
        carrier: where producers do not know when that was.
    """
    with running.programs(commands) as producers:
        begin_ns = running.begin(producers)
        if carrier is not None:
            carrier.begin(begin_ns)
        wait_until(begin_ns + round(context.warmup_seconds * 1e9))
        before = spent()
        reports = running.answers(producers, Report)
        total = sum(report.acknowledged for report in reports)
        carried = None if carrier is None else carrier.finish(total)
        return Load(reports, carried, spent() - before)


def wait_until(monotonic_ns: int) -> None:
    """Sleep until then."""
    time.sleep(max(0, monotonic_ns - time.monotonic_ns()) / 1e9)


def measurement(
    load: Load, context: Context, event_bytes: int, concurrency: int, read_sum: int | None
) -> Measurement:
    """One load as the runner wants it: from the end of the warm-up until the last has arrived.

    The processor time is that of the peer's servers; of a library, that of its users. Without a sum
    of what was read back none of what was written is told.
    """
    counting = load.reports if load.carried is None else [load.carried]
    begin_ns = counting[0].counted_from_ns
    times_ns = [np.repeat(report.times_ns, report.events_each) for report in counting]
    all_ns = np.concatenate(times_ns).astype(np.int64)
    series = [report.intervals for report in counting]
    producer_cpu_seconds = sum(report.cpu_seconds for report in load.reports)
    written_sum = sum(report.written_sum for report in load.reports) % 2**64
    carrier_cpu_seconds = 0.0 if load.carried is None else load.carried.cpu_seconds
    return Measurement(
        operations=sum(report.operations for report in counting),
        seconds=(max(report.last_ns for report in counting) - begin_ns) / 1e9,
        warmup_seconds=context.warmup_seconds,
        bytes_each=event_bytes,
        concurrency=concurrency,
        histogram=loops.histogram_of(all_ns) if len(all_ns) else None,
        timer_ns=max(report.timer_ns for report in load.reports),
        intervals=[sum(counts) for counts in zip_longest(*series, fillvalue=0)],
        interval_seconds=INTERVAL_SECONDS,
        written_sum=None if read_sum is None else written_sum,
        read_sum=read_sum,
        cpu_seconds=(load.server_cpu_seconds + carrier_cpu_seconds) or producer_cpu_seconds,
        facts={"producer_cpu_seconds": producer_cpu_seconds},
    )
