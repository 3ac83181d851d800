"""What `GET /v1/ledger/live` and the status page show: numbers of one moment. Pure.

Stages, verdicts and processes are those of the whole daemon; producers and events are those of the
api's tenant alone, whoever looks.
"""

from collections.abc import Iterable, Sequence

import msgspec

from certeusd.api.last_events import NAME_LENGTH_MAX, EventRow
from certeusd.control import metric_words as words
from certeusd.control import rates, types
from certeusd.control.sample import Sample
from certeusd.human import harmless

PRODUCERS_MAX = 32
STAGES_OFF = ("verify", "protect")
"""Of the six stages those that nothing passes through by now."""
UNKNOWING = ("starting", "recovering")
"""States in which nobody knows what is durable."""
ORDER = ("ingest", "validate", "verify", "protect", "commit", "deliver")


class VerdictRow(msgspec.Struct, frozen=True):
    """How often a verdict was given, since the daemon was started."""

    verdict: str
    """`accepted`, `escalated`, `duplicate` or `rejected`."""
    reason: str
    """Of a rejection; else empty."""
    total: int
    per_second: float | None


class ProcessRow(msgspec.Struct, frozen=True):
    """One process of the daemon."""

    name: str
    pid: int | None
    state: str
    """`ready`, `starting`, `down` or `crash-loop`."""
    cpu_percent: float
    rss_bytes: int
    restarts: int


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """One moment. Rates and quantiles are of the time since the one before; null: not known."""

    schema_version: int = 1
    at: str
    interval_seconds: float | None
    version: str
    state: str
    """`starting`, `recovering`, `ready`, `degraded` or `draining`."""
    since: str
    uptime_seconds: float
    reasons: list[types.Reason]
    bottleneck: types.Bottleneck | None
    durable_seq: int
    flushed_seq: int
    lag_events: int
    lag_seconds: float
    stages: list[rates.Stage]
    """Six, in the order of an event's way; one that is not in use has no numbers."""
    producers: list[rates.Producer]
    """Of the api's tenant, the 32 busiest."""
    producers_count: int
    """Of the api's tenant, all of them."""
    verdicts: list[VerdictRow]
    processes: list[ProcessRow]
    events: list[EventRow]
    """The last ones of the api's tenant, the newest first."""
    history: list[float]
    """Durable events a second, one number a moment, the newest last."""


def live(
    before: Sample | None,
    after: Sample,
    tenant: str,
    events: Sequence[EventRow] = (),
    history: Iterable[float] = (),
) -> Live:
    """Compare two samples, and leave out what is another tenant's."""
    if before is not None and not after.continues(before):
        before = None
    view, status = rates.view(before, after), after.status
    mine = [one for one in view.producers if one.tenant == tenant]
    mine.sort(key=lambda one: (-(one.events_per_second or 0.0), one.source, one.session))
    return Live(
        at=types.rfc3339(view.at),
        interval_seconds=view.interval_seconds,
        version=status.version,
        state=status.state,
        since=status.since,
        uptime_seconds=status.uptime_seconds,
        reasons=status.reasons,
        bottleneck=status.bottleneck,
        durable_seq=status.durable_seq,
        flushed_seq=status.flushed_seq,
        lag_events=status.lag_events,
        lag_seconds=status.lag_seconds,
        stages=_stages(view.stages),
        producers=[_harmless(one) for one in mine[:PRODUCERS_MAX]],
        producers_count=len(mine),
        verdicts=_verdicts(before, after, view.interval_seconds),
        processes=[_process(one) for one in (*status.processes, *status.workers)],
        events=list(events),
        history=list(history),
    )


def event_bytes(after: Sample) -> float:
    """How large an event in the log is, about."""
    log = _counters(after)
    return log.get("bytes_total", 0) / max(1, log.get("records_total", 0))


def durable_per_second(before: Sample | None, after: Sample) -> float | None:
    """How many events a second became durable."""
    if before is None or not after.continues(before):
        return None
    if before.status.state in UNKNOWING:
        return None  # What the log held already has not become durable now.
    seconds = after.status_at - before.status_at
    return rates.rate(before.status.durable_seq, after.status.durable_seq, seconds)


def _stages(known: Sequence[rates.Stage]) -> list[rates.Stage]:
    by_name = {one.stage: one for one in known}
    off = {name: rates.Stage(name, None, None, None, None, None) for name in STAGES_OFF}
    return [(off | by_name)[name] for name in ORDER]


def _harmless(one: rates.Producer) -> rates.Producer:
    return msgspec.structs.replace(one, source=harmless(one.source, NAME_LENGTH_MAX))


def _counters(sample: Sample | None) -> dict[str, int]:
    if sample is None:
        return {}
    return next(
        (one.counters for one in sample.status.processes if one.role == "log"), dict[str, int]()
    )


def _verdicts(before: Sample | None, after: Sample, seconds: float | None) -> list[VerdictRow]:
    then, now = _counters(before), _counters(after)

    def row(verdict: str, field: str, reason: str = "") -> VerdictRow:
        total = now.get(field, 0)
        old = then.get(field, 0) if then else None
        return VerdictRow(verdict, reason, total, rates.rate(old, total, seconds))

    rows = [row(verdict, field) for verdict, field in words.VERDICTS if verdict != "rejected"]
    rows.insert(1, row("escalated", "escalated_total"))
    reasons = [row("rejected", name, name.removesuffix("_total").replace("_", "-"))
               for name in words.REJECTIONS if now.get(name)]  # fmt: skip
    return [*rows, *sorted(reasons, key=lambda one: (-one.total, one.reason))]


def _process(one: types.Process) -> ProcessRow:
    return ProcessRow(
        name=one.name,
        pid=one.pid,
        state=rates.state_of(one),
        cpu_percent=one.cpu_percent,
        rss_bytes=one.rss_bytes,
        restarts=one.restarts,
    )
