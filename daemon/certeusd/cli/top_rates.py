"""What two samples say together: rates and quantiles of the interval between them. Pure.

Everything is the difference of counters that only grow, so a p99 is that of the interval and not of
all time. Without a sample before, or after a restart of the daemon, rates are not known (`None`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from certeusd import histogram
from certeusd.cli.top_sample import Sample
from certeusd.control import types

NS = 1e-9

Rate = float | None


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of an event's way."""

    stage: str
    events_per_second: Rate
    bytes_per_second: Rate
    rejected_per_second: Rate
    p50_seconds: Rate
    """`ingest`: reading to verdict; `commit`: a sync; `deliver`: a batch to its commit."""
    p99_seconds: Rate


@dataclass(frozen=True, slots=True)
class Worker:
    """One worker process."""

    name: str
    index: int
    pid: int | None
    state: str
    """`ready`, `starting`, `down`, `crash-loop`; `no-answer`: it has not told its producers."""
    sessions: int
    events_per_second: Rate
    bytes_per_second: Rate
    ack_p50_seconds: Rate
    ack_p99_seconds: Rate
    ring_fill: float | None
    """Of all rings of its producers together, 0..1."""
    forward_full_per_second: Rate
    """Waits for room towards the log writer: back-pressure."""
    rejected_per_second: Rate
    rejected: dict[str, int]
    """By reason, since the daemon started."""
    restarts: int
    cpu_percent: float
    cpu: int | None
    """The one it is pinned to."""
    affinity: str | None
    """Where it may run by now."""
    pinned: bool | None
    """Whether its affinity is still that CPU; none: it is not to be pinned, or not there."""


@dataclass(frozen=True, slots=True)
class Producer:
    """One producer's session."""

    worker: int
    session: int
    tenant: str
    source: str
    uid: int
    pid: int
    since: str
    events_per_second: Rate
    bytes_per_second: Rate
    ack_p50_seconds: Rate
    ack_p99_seconds: Rate
    ring_fill: float
    in_flight: int
    rejected_per_second: Rate
    rejected: dict[str, int]
    """By reason, since it connected."""
    duplicates_total: int


@dataclass(frozen=True, slots=True)
class Follower:
    """One follower of the log."""

    name: str
    state: str
    """The breaker's, or that of the position; `paused`, `away`."""
    events_per_second: Rate
    bytes_per_second: Rate
    lag_events: int
    lag_bytes: int
    """Of complete segments."""
    lag_seconds: float | None
    batch_p50_seconds: Rate
    batch_p99_seconds: Rate


@dataclass(frozen=True, slots=True)
class View:
    """Everything that `top` shows."""

    at: float
    """Seconds since 1970."""
    interval_seconds: float | None
    status: types.Status
    stages: list[Stage]
    workers: list[Worker]
    producers: list[Producer]
    followers: list[Follower] | None
    unanswered: list[str]


def view(before: Sample | None, after: Sample) -> View:
    """Compare two samples of one daemon; of different ones, only the later one counts."""
    if before is not None and not after.continues(before):
        before = None
    status = after.status
    seconds = None if before is None else after.status_at - before.status_at
    return View(
        at=after.at,
        interval_seconds=seconds,
        status=status,
        stages=_stages(before.status if before else None, status, seconds),
        workers=_workers(before, after, seconds),
        producers=_producers(before, after),
        followers=_followers(before, after, seconds),
        unanswered=after.producers.unanswered,
    )


def rate(before: int | None, after: int, seconds: float | None) -> Rate:
    """Per second; what went back began anew at 0."""
    if before is None or not seconds:
        return None
    return (after - before if after >= before else after) / seconds


def quantiles(
    before: Sequence[int] | None, after: Sequence[int]
) -> tuple[float | None, float | None]:
    """p50 and p99 in seconds of what was counted in between."""
    if before is None:
        return None, None
    counts = histogram.grown(before, after)
    p50, p99 = histogram.quantile(counts, 0.5), histogram.quantile(counts, 0.99)
    return (None if p50 is None else p50 * NS), (None if p99 is None else p99 * NS)


# --- processes -----------------------------------------------------------------------------------


def _of(status: types.Status, role: str, other: types.Status) -> list[types.Process]:
    """Find the processes of a role that another status has, too: workers come and go."""
    names = {one.name for one in (*other.workers, *other.processes)}
    processes = (*status.workers, *status.processes)
    return [one for one in processes if one.role == role and one.name in names]


def _sum(status: types.Status, role: str, field: str, other: types.Status) -> int:
    """Add up a counter of every process of a role."""
    return sum(one.counters.get(field, 0) for one in _of(status, role, other))


def _quantiles_of(
    before: types.Status | None, after: types.Status, role: str, name: str
) -> tuple[Rate, Rate]:
    """p50 and p99 of every process of a role together."""
    if before is None:
        return None, None
    return quantiles(_counts(before, role, name, after), _counts(after, role, name, before))


def _counts(status: types.Status, role: str, name: str, other: types.Status) -> list[int]:
    return histogram.merged([one.histograms.get(name, []) for one in _of(status, role, other)])


STAGES = (
    # stage, role, events, bytes, rejected, histogram
    ("ingest", "worker", "events_total", "bytes_total", None, "ack_ns"),
    ("validate", "worker", "forwarded_total", None, "rejected_total", None),
    ("commit", "log", "records_total", "bytes_total", "rejected_total", "sync_ns"),
    ("deliver", "flush", "rows_total", "bytes_total", "dead_letters_total", "batch_ns"),
)


def _stages(before: types.Status | None, after: types.Status, seconds: float | None) -> list[Stage]:
    def of(role: str, field: str | None) -> Rate:
        if field is None or before is None:
            return None
        return rate(_sum(before, role, field, after), _sum(after, role, field, before), seconds)

    rows = list[Stage]()
    for stage, role, events, byte_count, rejected, name in STAGES:
        p50, p99 = _quantiles_of(before, after, role, name) if name else (None, None)
        lost = of(role, rejected)
        if stage == "commit" and lost is not None:
            # The log writer counts what workers rejected, too: what is left are its own.
            lost = max(0.0, lost - (of("worker", "rejected_total") or 0.0))
        rows.append(Stage(stage, of(role, events), of(role, byte_count), lost, p50, p99))
    return rows


def _workers(before: Sample | None, after: Sample, seconds: float | None) -> list[Worker]:
    known = {one.name: one for one in before.status.workers} if before else {}
    unanswered = set(after.producers.unanswered)
    return [_worker(known.get(one.name), one, after, seconds, one.name in unanswered)
            for one in after.status.workers]  # fmt: skip


def _worker(
    before: types.Process | None,
    after: types.Process,
    sample: Sample,
    seconds: float | None,
    silent: bool,
) -> Worker:
    def of(field: str) -> Rate:
        return rate(None if before is None else before.counters[field], after.counters[field],
                    seconds)  # fmt: skip

    old = None if before is None else before.histograms.get("ack_ns", [])
    p50, p99 = quantiles(old, after.histograms.get("ack_ns", []))
    rings = [one for one in sample.producers.producers if one.worker == after.index]
    ring_bytes = sum(one.ring_bytes for one in rings)
    used = sum(one.ring_used_bytes for one in rings)
    pinned = None if after.cpu is None or after.affinity is None else (
        after.affinity == str(after.cpu)
    )  # fmt: skip
    return Worker(
        name=after.name,
        index=after.index,
        pid=after.pid,
        state=_state(after, silent),
        sessions=after.counters["sessions"],
        events_per_second=of("events_total"),
        bytes_per_second=of("bytes_total"),
        ack_p50_seconds=p50,
        ack_p99_seconds=p99,
        ring_fill=used / ring_bytes if ring_bytes else None,
        forward_full_per_second=of("forward_full_total"),
        rejected_per_second=of("rejected_total"),
        rejected=after.rejected,
        restarts=after.restarts,
        cpu_percent=after.cpu_percent,
        cpu=after.cpu,
        affinity=after.affinity,
        pinned=pinned,
    )


def _state(process: types.Process, silent: bool) -> str:
    if process.crash_loop:
        return "crash-loop"
    if process.pid is None:
        return "down"
    if not process.ready:
        return "starting"
    return "no-answer" if silent else "ready"


# --- producers and followers ---------------------------------------------------------------------


def _producers(before: Sample | None, after: Sample) -> list[Producer]:
    seconds = None if before is None else after.producers_at - before.producers_at
    known = {_key(one): one for one in before.producers.producers} if before else {}
    silent = set(before.producers.unanswered) if before else set[str]()
    rows = list[Producer]()
    for one in after.producers.producers:
        old = known.get(_key(one))
        # Who was not there began at 0, unless nobody said who was there.
        new = old is None and before is not None and f"worker-{one.worker}" not in silent
        rows.append(_producer(old, one, seconds, new))
    return rows


def _key(one: types.Producer) -> tuple[int, int, str]:
    """Names a session over all lives of its worker."""
    return one.worker, one.session, one.since


def _producer(
    before: types.Producer | None, after: types.Producer, seconds: float | None, new: bool
) -> Producer:
    def of(count: Callable[[types.Producer], int]) -> Rate:
        old = None if before is None else count(before)
        return rate(0 if new else old, count(after), seconds)

    old = None if before is None else before.ack_ns_buckets
    p50, p99 = quantiles([] if new else old, after.ack_ns_buckets)
    return Producer(
        worker=after.worker,
        session=after.session,
        tenant=after.tenant,
        source=after.source,
        uid=after.uid,
        pid=after.pid,
        since=after.since,
        events_per_second=of(lambda one: one.events_total),
        bytes_per_second=of(lambda one: one.bytes_total),
        ack_p50_seconds=p50,
        ack_p99_seconds=p99,
        ring_fill=after.ring_used_bytes / after.ring_bytes,
        in_flight=after.in_flight,
        rejected_per_second=of(lambda one: sum(one.rejected.values())),
        rejected=after.rejected,
        duplicates_total=after.duplicates_total,
    )


def _followers(
    before: Sample | None, after: Sample, seconds: float | None
) -> list[Follower] | None:
    if after.followers is None:
        return None
    known = {one.name: one for one in before.followers.followers} if (
        before and before.followers
    ) else {}  # fmt: skip
    rows = list[Follower]()
    for one in after.followers.followers:
        old = known.get(one.name)
        if one.name == "postgres":
            rows.append(_postgres(one, before.status if before else None, after.status, seconds))
            continue
        speed = rate(None if old is None else old.seq, one.seq, seconds)
        rows.append(Follower(one.name, one.state, speed, None, one.lag_events, one.lag_bytes,
                             None, None, None))  # fmt: skip
    return rows


def _postgres(
    row: types.FollowerRow,
    before: types.Status | None,
    after: types.Status,
    seconds: float | None,
) -> Follower:
    """PostgreSQL: how it is by now, and not only what it has synced to its position file."""
    p50, p99 = _quantiles_of(before, after, "flush", "batch_ns")
    old = None if before is None else before.flushed_seq
    sent = None if before is None else _sum(before, "flush", "bytes_total", after)
    return Follower(
        name=row.name,
        state=_delivery(after),
        events_per_second=rate(old, after.flushed_seq, seconds),
        bytes_per_second=rate(sent, _sum(after, "flush", "bytes_total", after), seconds),
        lag_events=after.lag_events,
        lag_bytes=row.lag_bytes,
        lag_seconds=after.lag_seconds,
        batch_p50_seconds=p50,
        batch_p99_seconds=p99,
    )


def _delivery(status: types.Status) -> str:
    """Say how the delivery is, in a word or two."""
    if any(reason.code == "flush-paused" for reason in status.reasons):
        return "paused"
    breaker = status.postgres.breaker
    if breaker is not None and breaker.state != "closed":
        return f"{breaker.state}: {breaker.cause}" if breaker.cause else breaker.state
    return "connected" if status.postgres.connected else "away"
