"""A load: producer processes that follow one plan, and what they and the watcher saw of it."""

import math
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec

from certeus_bench import histogram
from certeus_bench.load.producer import Order, Report
from certeus_bench.load.profile import Profile
from certeus_bench.load.progress import Page
from certeus_bench.load.sampling import MACHINE, POSTGRES, Sample, Sampler, Target
from certeus_bench.load.schedule import Plan
from certeus_bench.load.stages import rates
from certeus_bench.peers import running
from certeus_bench.results import Loop, Measurement

INTERVAL_SECONDS = 0.5
KINDS = ("worker", "log", "flush", POSTGRES)
SETTLE_SECONDS = 60.0

Show = Callable[[list[Sample], Page], None]


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What is offered, beside the plan."""

    workers: int
    profile: Profile = Profile.UNIFORM
    event_bytes: int = 200
    ring_bytes: int = 4 << 20
    seed: int = 0
    settle_seconds: float = SETTLE_SECONDS


class Load(NamedTuple):
    """What came of it."""

    reports: list[Report]
    samples: list[Sample]

    def total(self, field: str) -> int:
        """A count of all producers together."""
        return sum(int(getattr(report, field)) for report in self.reports)


def offer(
    target: Target, plan: Plan, shape: Shape, counted_from_seconds: float, home: Path, show: Show
) -> Load:
    """Run producers until all that they sent is settled, or the time for that is over."""
    file = home / "progress"
    page = Page.make(file)
    run = secrets.token_hex(4)
    orders = [
        Order(
            socket=target.socket, source=f"load/{run}/{worker}", page=str(file), plan=plan,
            worker=worker, workers=shape.workers, profile=shape.profile,
            event_bytes=shape.event_bytes, ring_bytes=shape.ring_bytes, seed=shape.seed,
            counted_from_seconds=counted_from_seconds, interval_seconds=INTERVAL_SECONDS,
            settle_seconds=shape.settle_seconds,
        )
        for worker in range(shape.workers)
    ]  # fmt: skip
    program = [sys.executable, "-m", "certeus_bench.load.producer"]
    commands = [[*program, msgspec.json.encode(order).decode()] for order in orders]
    with running.programs(commands) as producers:
        begin_ns = running.begin(producers)
        with Sampler(
            target, page, shape.workers, begin_ns, lambda samples: show(samples, page)
        ) as sampler:
            reports = running.answers(producers, Report)
    return Load(reports, sampler.samples)


def measurement(
    load: Load, plan: Plan, counted_from_seconds: float, sums: tuple[int, int] | None
) -> Measurement:
    """A load as evidence: from the end of the ramp until the last event was durable."""
    reports = load.reports
    operations = load.total("operations")
    last_s = max(plan.seconds, *(report.last_ns / 1e9 for report in reports))
    inside = [one for one in load.samples if counted_from_seconds <= one.at_s <= plan.seconds]
    late = histogram.latency(histogram.merged(histogram.decode(one.late) for one in reports))
    whole = histogram.merged(histogram.decode(one.histogram) for one in reports)
    facts = {
        "producer_cpu_seconds": sum(report.cpu_seconds for report in reports),
        "ring_full_seconds": sum(report.ring_full_seconds for report in reports),
        "offered_late_p50_ns": float(late.p50_ns if late else 0),
        "offered_late_p99_ns": float(late.p99_ns if late else 0),
        "lag_events_max": float(max((one.lag_events for one in inside), default=0)),
        "resent": float(load.total("resent")),
    }
    daemon_cpu_seconds: float | None = None
    if len(inside) > 1:
        found = rates(inside[0], inside[-1])
        seconds = inside[-1].at_s - inside[0].at_s
        facts["postgres_per_second"] = found.flushed
        facts["events_a_group"], facts["sync_mean_ns"] = _groups(inside[0], inside[-1])
        for kind in KINDS:
            facts[f"{kind}_processors"] = found.processors(kind)
            facts[f"{kind}_in_line"] = found.in_line(kind)
        facts["machine_processors"] = found.cpu.get(MACHINE, 0.0)
        daemon_cpu_seconds = sum(map(found.processors, KINDS)) * seconds
    return Measurement(
        operations=operations,
        seconds=last_s - counted_from_seconds,
        warmup_seconds=counted_from_seconds,
        bytes_each=bytes_each(load),
        loop=Loop.OPEN,
        histogram=histogram.encode(whole),
        timer_ns=max(report.timer_ns for report in reports),
        intervals=_intervals(reports, last_s - counted_from_seconds),
        interval_seconds=INTERVAL_SECONDS,
        written_sum=None if sums is None else sums[0],
        read_sum=None if sums is None else sums[1],
        cpu_seconds=daemon_cpu_seconds,
        facts=facts,
    )


def bytes_each(load: Load) -> int:
    """The mean payload of what is counted."""
    return round(load.total("bytes") / max(load.total("operations"), 1))


def _groups(first: Sample, last: Sample) -> tuple[float, float]:
    """Events of a group, and how long its sync took, on average."""
    groups = max(last.groups - first.groups, 1)
    events, sync_s = last.durable_seq - first.durable_seq, last.sync_s - first.sync_s
    return events / groups, sync_s / groups * 1e9


def _intervals(reports: list[Report], seconds: float) -> list[int]:
    """Of all producers, up to the end: a burst may be over before that."""
    whole = [0] * max(math.ceil(seconds / INTERVAL_SECONDS), *(len(r.intervals) for r in reports))
    for report in reports:
        for at, count in enumerate(report.intervals):
            whole[at] += count
    return whole
