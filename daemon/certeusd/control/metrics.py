"""Prometheus text from the board: one pass over shared memory, no files, nothing to aggregate.

The board's pages outlive the processes that count in them, so sums never go back; labels are slots
(`worker="0"`), never pids. `certeus_<noun>_<unit>[_total]`; what belongs to a stage of an event's
way is one family with a `stage` label: ingest, validate, verify, protect, commit, deliver. Which
word of the board is which family: `metric_words.py`.
"""

import time
from collections.abc import Iterable
from typing import Protocol

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector, CollectorRegistry

from certeusd import logs
from certeusd.board import Board
from certeusd.control import exposed, health, reasons
from certeusd.control import metric_words as words
from certeusd.control.measures import Measures
from certeusd.control.sla import Sla
from certeusd.control.types import Status
from certeusd.doors import DOORS

CONTENT_TYPE = exposed.CONTENT_TYPE
STATES = ("starting", "recovering", "ready", "degraded", "draining")
STAGES_THAT_HOLD_UP = ("ingest", "commit", "deliver")


class Source(Protocol):
    """What is asked: part of `certeusd.control.backend.Backend`."""

    @property
    def board(self) -> Board:
        """The shared page of counters."""
        ...

    @property
    def takes_events(self) -> bool:
        """Whether the state is `ready` or `degraded`."""
        ...

    def status(self) -> Status:
        """Everything about the service."""
        ...

    def measures(self) -> Measures:
        """What is measured."""
        ...


class BoardCollector(Collector):
    """Reads the board at each scrape."""

    def __init__(self, backend: Source) -> None:
        self._backend = backend

    def collect(self) -> Iterable[Metric]:
        """Yield every family."""
        board, status = self._backend.board, self._backend.status()
        measures = self._backend.measures()
        workers = measures.worker_places
        yield from _service(status, self._backend.takes_events)
        yield from _configuration(status, measures)
        yield from _positions(board, measures)
        yield from _staged(board, workers)
        yield from _rejected(board)
        yield from _of_workers(board, workers)
        yield from _scaling(status)
        yield from _plain(board)
        yield from _of_doors(board)
        yield from _breaker(board)
        yield from _histograms(board, workers)
        yield from _processes(measures)
        yield _lines_dropped(board, workers)
        yield from _memory(measures)
        yield from _sla(measures.sla)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _one_of(
    name: str, text: str, label: str, known: Iterable[str], holding: Iterable[str]
) -> Metric:
    """Give a series to each word, 1 for those that hold."""
    family, now = GaugeMetricFamily(name, text, labels=[label]), set(holding)
    for word in sorted({*known, *now}):
        family.add_metric([word], float(word in now))
    return family


def _service(status: Status, takes_events: bool) -> Iterable[Metric]:
    yield InfoMetricFamily("certeus_build", "Version.", value={"version": status.version})
    yield _gauge("certeus_collected_timestamp_seconds", "When this was collected.", time.time())
    yield _one_of("certeus_state", "1 for the state it is in.", "state", STATES, [status.state])
    takes = takes_events and not health.no_room(status)
    text = "1 while events are taken and the log has room."
    yield _gauge("certeus_takes_events", text, float(takes))
    codes = [reason.code for reason in status.reasons]
    text = "1 for each reason that holds."
    yield _one_of("certeus_reason", text, "code", reasons.CODES, codes)
    slow = [] if status.bottleneck is None else [status.bottleneck.stage]
    text = "1 for the stage that holds the others up."
    yield _one_of("certeus_bottleneck", text, "stage", STAGES_THAT_HOLD_UP, slow)


def _configuration(status: Status, measures: Measures) -> Iterable[Metric]:
    reload, limits = measures.reload, measures.thresholds
    yield _gauge(
        "certeus_start_timestamp_seconds", "When the daemon was started.", measures.started_at
    )
    yield _gauge(
        "certeus_config_last_reload_successful",
        "1 if the configuration that was read last could be used.",
        float(reload.successful),
    )
    yield _gauge(
        "certeus_config_last_reload_success_timestamp_seconds",
        "When the configuration was last read and used.",
        reload.succeeded_at,
    )
    yield _gauge(
        "certeus_config_pending_keys", "Keys that wait for the next start.", len(status.pending)
    )
    labels = ["resource", "severity"]
    ratio = GaugeMetricFamily(
        "certeus_threshold_ratio", "[thresholds]: shares to be alerted at.", labels=labels
    )
    seconds = GaugeMetricFamily(
        "certeus_threshold_seconds", "[thresholds]: times to be alerted at.", labels=labels
    )
    ratio.add_metric(["cpu", "warning"], limits.cpu_warning)
    ratio.add_metric(["cpu", "critical"], limits.cpu_critical)
    ratio.add_metric(["memory", "warning"], limits.memory_warning)
    ratio.add_metric(["memory", "critical"], limits.memory_critical)
    ratio.add_metric(["error_rate", "warning"], limits.error_rate_warning)
    ratio.add_metric(["error_rate", "critical"], limits.error_rate_critical)
    seconds.add_metric(["latency", "warning"], limits.latency_warning_ms / 1000)
    seconds.add_metric(["latency", "critical"], limits.latency_critical_ms / 1000)
    yield from (ratio, seconds)


def _positions(board: Board, measures: Measures) -> Iterable[Metric]:
    durable = board.get("durability", "durable_seq")
    flushed = board.get("follower", "position_seq")
    for name, text, value in (
        ("certeus_durable_seq", "Last durable seq.", durable),
        ("certeus_flushed_seq", "Last seq in PostgreSQL.", flushed),
        ("certeus_lag_events", "Durable and not in PostgreSQL.", max(0, durable - flushed)),
        ("certeus_flushed_timestamp_seconds",
         "What was durable then is in PostgreSQL; the start at the earliest.",
         measures.flushed_until),
        ("certeus_last_group_timestamp_seconds", "When the last group was recorded.",
         board.get("durability", "recorded_at_ns") * words.NS),
        ("certeus_dedup_from_timestamp_seconds", "Each id recorded since then is known.",
         board.get("log", "dedup_from_ns") * words.NS),
        ("certeus_postgres_connected", "1 while connected.", board.get("flush", "connected")),
    ):  # fmt: skip
        yield _gauge(name, text, float(value))
    lag = GaugeMetricFamily(
        "certeus_follower_lag_bytes",
        "Log that is kept for a follower: whole segments, at their mean size.",
        labels=["follower"],
    )
    lag.add_metric(["postgres"], held_bytes(board))
    yield lag


def held_bytes(board: Board) -> float:
    """Bytes of the segments from the one that PostgreSQL has confirmed to the newest."""
    if board.get("durability", "durable_seq") <= board.get("follower", "position_seq"):
        return 0.0
    segments = board.get("log", "segments")
    newest, confirmed = (
        board.get(table, word)
        for table, word in (("durability", "segment_no"), ("follower", "trim_segment"))
    )
    held = min(newest - confirmed + 1, segments)
    return board.get("log", "log_bytes") * held / max(segments, 1)


def _staged(board: Board, workers: int) -> Iterable[Metric]:
    for name, text, staged in (
        ("certeus_events", "Events that passed a stage.", words.EVENTS),
        ("certeus_bytes", "Bytes that passed a stage.", words.BYTES),
    ):
        family = CounterMetricFamily(name, text, labels=["stage"])
        for word in staged:
            slots = range(workers) if word.table == "worker" else range(1)
            value = sum(board.get(word.table, word.field, slot) for slot in slots)
            family.add_metric([word.stage], value)
        yield family


def _rejected(board: Board) -> Iterable[Metric]:
    verdicts = CounterMetricFamily(
        "certeus_verdicts", "Verdicts of the log, one a ticket.", labels=["verdict"]
    )
    for verdict, field in words.VERDICTS:
        verdicts.add_metric([verdict], board.get("log", field))
    rejected = CounterMetricFamily(
        "certeus_rejected_events", "Events rejected, one a ticket.", labels=["stage", "reason"]
    )
    for field in words.REJECTIONS:
        stage = "commit" if field == words.ID_CONFLICT else "validate"
        reason = field.removesuffix("_total").replace("_", "-")
        rejected.add_metric([stage, reason], board.get("log", field))
    yield from (verdicts, rejected)


def _of_workers(board: Board, workers: int) -> Iterable[Metric]:
    slots = range(workers)
    for field, name, text in words.WORKER_COUNTERS:
        counter = CounterMetricFamily(name, text, labels=["worker"])
        for slot in slots:
            counter.add_metric([str(slot)], board.get("worker", field, slot))
        yield counter
    for field, name, text in words.WORKER_GAUGES:
        gauge = GaugeMetricFamily(name, text, labels=["worker"])
        for slot in slots:
            gauge.add_metric([str(slot)], board.get("worker", field, slot))
        yield gauge
    violations = CounterMetricFamily(
        "certeus_ring_violations",
        "Sessions ended for garbage in their ring.",
        labels=["worker", "kind"],
    )
    for slot in slots:
        for kind in words.VIOLATIONS:
            value = board.get("worker", f"ring_{kind}_total", slot)
            violations.add_metric([str(slot), kind], value)
    yield violations


def _scaling(status: Status) -> Iterable[Metric]:
    found = status.scaling
    if found is None:
        return
    yield _gauge("certeus_workers", "Workers that there are to be.", found.current)
    yield _gauge("certeus_workers_min", "Workers that there are at least.", found.min)
    yield _gauge("certeus_workers_max", "Workers that there may be.", found.max)
    changes = CounterMetricFamily(
        "certeus_workers_scaled", "Changes of their number.", labels=["direction"]
    )
    changes.add_metric(["up"], found.ups_total)
    changes.add_metric(["down"], found.downs_total)
    yield changes


def _plain(board: Board) -> Iterable[Metric]:
    for table, rows in (("log", words.LOG_COUNTERS), ("flush", words.FLUSH_COUNTERS)):
        for field, name, text in rows:
            yield CounterMetricFamily(name, text, value=board.get(table, field))
    for field, name, text in words.LOG_GAUGES:
        yield _gauge(name, text, board.get("log", field))


def _of_doors(board: Board) -> Iterable[Metric]:
    for made, rows in (
        (CounterMetricFamily, words.DOOR_COUNTERS),
        (GaugeMetricFamily, words.DOOR_GAUGES),
    ):
        for field, name, text in rows:
            family = made(name, text, labels=["door"])
            for door in DOORS:
                family.add_metric([door], board.get(door, field))
            yield family


def _breaker(board: Board) -> Iterable[Metric]:
    labels = ["destination", "state"]
    state = GaugeMetricFamily("certeus_breaker_state", "1 for the breaker's state.", labels=labels)
    moves = CounterMetricFamily("certeus_breaker_transitions", "Moves into a state.", labels=labels)
    current = board.get("flush", "breaker_state")
    for number, name in enumerate(words.BREAKER_STATES, start=1):
        state.add_metric(["postgres", name], float(number == current))
        word = f"breaker_{name.replace('-', '_')}_total"
        moves.add_metric(["postgres", name], board.get("flush", word))
    failures = GaugeMetricFamily(
        "certeus_breaker_failures", "Failures since the last delivery.", labels=["destination"]
    )
    failures.add_metric(["postgres"], board.get("flush", "breaker_failures"))
    yield from (state, moves, failures)


def _histograms(board: Board, workers: int) -> Iterable[Metric]:
    for one in words.HISTOGRAMS:
        slots = range(workers) if one.table == "worker" else range(1)
        counts = [0] * words.BUCKETS
        for slot in slots:
            mine = board.histogram(one.table, one.field, slot)
            counts = [before + int(count) for before, count in zip(counts, mine, strict=True)]
        buckets = [(one.bound(at), sum(counts[: at + 1])) for at in range(one.first, one.last + 1)]
        total = sum(board.get(one.table, one.sum_field, slot) for slot in slots)
        yield HistogramMetricFamily(
            one.name,
            one.help,
            buckets=[*buckets, ("+Inf", sum(counts))],
            sum_value=total * one.sum_scale,
        )


def _processes(measures: Measures) -> Iterable[Metric]:
    labels = ["role", "slot"]
    up = GaugeMetricFamily("certeus_process_up", "1 while at work.", labels=labels)
    restarts = CounterMetricFamily(
        "certeus_process_restarts", "Ends that nobody asked for.", labels=labels
    )
    cpu = CounterMetricFamily(
        "certeus_process_cpu_seconds", "Processor time of all lives.", labels=labels
    )
    memory = GaugeMetricFamily(
        "certeus_process_resident_bytes", "Resident memory, shared rings in it.", labels=labels
    )
    start = GaugeMetricFamily(
        "certeus_process_start_timestamp_seconds", "When this life began.", labels=labels
    )
    pinned = GaugeMetricFamily(
        "certeus_process_pinned_cpu", "Number of its CPU, if it has one.", labels=labels
    )
    for one in measures.processes:
        at = [one.role, str(one.slot)]
        up.add_metric(at, float(one.up))
        restarts.add_metric(at, one.restarts)
        cpu.add_metric(at, one.cpu_seconds)
        memory.add_metric(at, one.resident_bytes)
        if one.started_at is not None:
            start.add_metric(at, one.started_at)
        if one.pinned_cpu is not None:
            pinned.add_metric(at, one.pinned_cpu)
    yield from (up, restarts, cpu, memory, start, pinned)


def _lines_dropped(board: Board, workers: int) -> Metric:
    family = CounterMetricFamily(
        "certeus_log_lines_dropped",
        "Lines that could not be logged at once.",
        labels=["role", "slot"],
    )
    family.add_metric(["supervisor", "0"], logs.lines_dropped())
    single = [(table, 1) for table in ("log", "flush", *DOORS)]
    for table, slots in (*single, ("worker", workers)):
        for slot in range(slots):
            count = board.get(table, "log_lines_dropped_total", slot)
            family.add_metric([table, str(slot)], count)
    return family


def _memory(measures: Measures) -> Iterable[Metric]:
    yield _gauge("certeus_cpus", "CPUs that the daemon may use.", measures.cpus)
    memory = measures.memory
    for name, text, value in (
        ("certeus_memory_used_bytes", "Memory that cannot be reclaimed, of that scope.",
         memory.used_bytes),
        ("certeus_memory_limit_bytes", "Memory that there is, of that scope.",
         memory.limit_bytes),
    ):  # fmt: skip
        family = GaugeMetricFamily(name, text, labels=["scope"])
        family.add_metric([memory.scope], value)
        yield family


def _sla(sla: Sla) -> Iterable[Metric]:
    labels = ["objective"]
    met = GaugeMetricFamily(
        "certeus_sla_met", "1 while an objective of [sla] is met, or nothing measured.",
        labels=labels,
    )  # fmt: skip
    families = {
        (unit, what): GaugeMetricFamily(f"certeus_sla_{what}_{unit}", text, labels=labels)
        for unit in ("seconds", "ratio")
        for what, text in (
            ("objective", "[sla]: what is promised."),
            ("measured", "What was measured over the window; nothing: no series."),
        )
    }
    for one in sla.objectives:
        met.add_metric([one.name], float(one.met))
        unit, scale = ("seconds", 1e-3) if one.unit == "milliseconds" else ("ratio", 1.0)
        families[unit, "objective"].add_metric([one.name], one.objective * scale)
        if one.measured is not None:
            families[unit, "measured"].add_metric([one.name], one.measured * scale)
    yield from (met, *families.values())


def render(backend: Source) -> str:
    """Return the text of one scrape."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(BoardCollector(backend))
    return generate_latest(registry).decode()
