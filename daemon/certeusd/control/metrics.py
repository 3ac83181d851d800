"""Prometheus text from the board: one pass over shared memory, no files, nothing to aggregate.

The board's pages outlive the processes that count in them, so sums never go back; labels are slots
(`worker="0"`), never pids. `certeus_<noun>_<unit>[_total]`; what belongs to a stage of an event's
way is one family with a `stage` label: ingest, validate, verify, protect, commit, deliver.
"""

from collections.abc import Iterable
from typing import NamedTuple

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
from certeusd.control.backend import Backend
from certeusd.control.types import Process

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
NS = 1e-9


class Staged(NamedTuple):
    """A word of the board that counts events or bytes of a stage."""

    stage: str
    table: str
    field: str


EVENTS = (
    Staged("ingest", "worker", "events_total"),
    Staged("validate", "worker", "forwarded_total"),
    Staged("commit", "log", "records_total"),
    Staged("deliver", "flush", "rows_total"),
)
BYTES = (
    Staged("ingest", "worker", "bytes_total"),
    Staged("commit", "log", "bytes_total"),
    Staged("deliver", "flush", "bytes_total"),
)
REJECTED = (
    Staged("validate", "worker", "rejected_total"),
    Staged("commit", "log", "rejected_total"),
    Staged("deliver", "flush", "dead_letters_total"),
)

# (field, name, help) of plain words.
WORKER_COUNTERS = (
    ("sessions_total", "certeus_sessions_opened", "Sessions opened."),
    ("refused_total", "certeus_sessions_refused", "Sessions refused at hello."),
    ("ended_total", "certeus_sessions_ended", "Sessions ended."),
    ("violations_total", "certeus_ring_violations", "Sessions ended for garbage in their ring."),
    ("settled_total", "certeus_tickets_settled", "Tickets whose verdict is out."),
    ("wakeups_total", "certeus_worker_wakeups", "Returns of a worker from sleep."),
    ("bells_total", "certeus_bells", "Bells rung to clients."),
    ("forward_full_total", "certeus_forward_full", "Waits for room towards the log writer."),
)
WORKER_GAUGES = (
    ("sessions", "certeus_sessions", "Sessions open."),
    ("ring_bytes", "certeus_ring_bytes", "Bytes of client rings."),
    ("in_flight", "certeus_in_flight_events", "Events forwarded and not settled."),
)
LOG_COUNTERS = (
    ("groups_total", "certeus_groups", "Groups synced."),
    ("duplicates_total", "certeus_duplicates", "Events recognised by their id."),
    ("stale_total", "certeus_stale_records", "Records of an older epoch, dropped."),
    ("wakeups_total", "certeus_log_wakeups", "Returns of the log writer from sleep."),
    ("torn_total", "certeus_torn_groups", "Unfinished groups found at recovery."),
    ("damaged_total", "certeus_damaged_groups", "Damaged groups put into quarantine."),
)
LOG_GAUGES = (
    ("segments", "certeus_log_segments", "Segments of the log."),
    ("log_bytes", "certeus_log_bytes", "Bytes of the log."),
    ("log_bytes_max", "certeus_log_limit_bytes", "Bytes that the log may take."),
    ("dedup_keys", "certeus_dedup_keys", "Ids in the dedup window."),
    ("dedup_from_seq", "certeus_dedup_from_seq", "Oldest seq of the dedup window."),
    ("producers", "certeus_producers", "Producers known to the log writer."),
    ("full", "certeus_log_full", "1 while the log is full."),
    ("disk_free_bytes", "certeus_disk_free_bytes", "Bytes free on the log's disk."),
    ("disk_short", "certeus_disk_short", "1 while the disk is down to its reserve."),
    ("recovery_phase", "certeus_recovery_phase", "0: no start is under way; 1 to 3: its phase."),
    ("recovery_segments", "certeus_recovery_segments", "Segments that the start has to read."),
    ("recovery_segments_done", "certeus_recovery_read_segments", "Segments it has read."),
    ("recovery_bytes", "certeus_recovery_bytes", "Bytes of them without a sidecar."),
    ("recovery_bytes_done", "certeus_recovery_read_bytes", "Bytes it has read."),
)
FLUSH_COUNTERS = (
    ("batches_total", "certeus_batches", "Batches committed in PostgreSQL."),
    ("gaps_total", "certeus_gaps", "Gaps written to PostgreSQL."),
    ("reconnects_total", "certeus_postgres_reconnects", "Connections made again."),
)
BREAKER_STATES = ("closed", "open", "half-open")
"""In the order of the board's `breaker_state`, from 1 on; 0: there is no flusher."""
# (table, field, name, help, scale)
HISTOGRAMS = (
    ("log", "sync_ns_buckets_64", "certeus_sync_seconds", "One sync of the log.", NS),
    ("log", "group_records_buckets_64", "certeus_group_records", "Records of a group.", 1.0),
    ("flush", "batch_ns_buckets_64", "certeus_batch_seconds", "One batch to its commit.", NS),
    ("flush", "batch_rows_buckets_64", "certeus_batch_rows", "Rows of a batch.", 1.0),
)
SUMS = {"certeus_sync_seconds": "sync_ns_sum", "certeus_batch_seconds": "commit_ns_sum"}
RECORD_SUMS = {"certeus_group_records": "records_total", "certeus_batch_rows": "rows_total"}


class BoardCollector(Collector):
    """Reads the board at each scrape."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def collect(self) -> Iterable[Metric]:
        """Yield every family."""
        board, workers = self._backend.board, self._backend.workers()
        status = self._backend.status()
        yield InfoMetricFamily("certeus_build", "Version.", value={"version": status.version})
        state = GaugeMetricFamily("certeus_state", "1 for the state it is in.", labels=["state"])
        state.add_metric([status.state], 1)
        yield state
        reasons = GaugeMetricFamily("certeus_reason", "Why it is degraded.", labels=["code"])
        for code in sorted({reason.code for reason in status.reasons}):
            reasons.add_metric([code], 1)
        yield reasons
        yield from self._positions(board, status.lag_seconds)
        yield from self._staged(board, len(workers))
        yield from self._plain(board, len(workers))
        yield from self._breaker(board)
        yield from self._histograms(board)
        yield self._lines_dropped(board, len(workers))
        yield from self._processes([*workers, *self._backend.processes()])

    def _positions(self, board: Board, lag_seconds: float) -> Iterable[Metric]:
        durable = board.get("durability", "durable_seq")
        flushed = board.get("follower", "position_seq")
        for name, text, value in (
            ("certeus_durable_seq", "Last durable seq.", durable),
            ("certeus_flushed_seq", "Last seq in PostgreSQL.", flushed),
            ("certeus_lag_events", "Durable and not in PostgreSQL.", max(0, durable - flushed)),
            ("certeus_lag_seconds", "How long the oldest of them waits.", lag_seconds),
            ("certeus_postgres_connected", "1 while connected.", board.get("flush", "connected")),
        ):
            yield GaugeMetricFamily(name, text, value=float(value))

    def _staged(self, board: Board, workers: int) -> Iterable[Metric]:
        for name, text, words in (
            ("certeus_events", "Events that passed a stage.", EVENTS),
            ("certeus_bytes", "Bytes that passed a stage.", BYTES),
            ("certeus_rejected_events", "Events that a stage rejected.", REJECTED),
        ):
            family = CounterMetricFamily(name, text, labels=["stage"])
            for word in words:
                slots = range(workers) if word.table == "worker" else range(1)
                value = sum(board.get(word.table, word.field, slot) for slot in slots)
                family.add_metric([word.stage], value)
            yield family

    def _plain(self, board: Board, workers: int) -> Iterable[Metric]:
        for field, name, text in WORKER_COUNTERS:
            counter = CounterMetricFamily(name, text, labels=["worker"])
            for slot in range(workers):
                counter.add_metric([str(slot)], board.get("worker", field, slot))
            yield counter
        for field, name, text in WORKER_GAUGES:
            gauge = GaugeMetricFamily(name, text, labels=["worker"])
            for slot in range(workers):
                gauge.add_metric([str(slot)], board.get("worker", field, slot))
            yield gauge
        for table, rows in (("log", LOG_COUNTERS), ("flush", FLUSH_COUNTERS)):
            for field, name, text in rows:
                yield CounterMetricFamily(name, text, value=board.get(table, field))
        for field, name, text in LOG_GAUGES:
            yield GaugeMetricFamily(name, text, value=board.get("log", field))

    def _breaker(self, board: Board) -> Iterable[Metric]:
        labels = ["destination", "state"]
        state = GaugeMetricFamily(
            "certeus_breaker_state", "1 for the breaker's state.", labels=labels
        )
        moves = CounterMetricFamily(
            "certeus_breaker_transitions", "Moves into a state.", labels=labels
        )
        current = board.get("flush", "breaker_state")
        for number, name in enumerate(BREAKER_STATES, start=1):
            state.add_metric(["postgres", name], float(number == current))
            word = f"breaker_{name.replace('-', '_')}_total"
            moves.add_metric(["postgres", name], board.get("flush", word))
        failures = GaugeMetricFamily(
            "certeus_breaker_failures", "Failures since the last delivery.", labels=["destination"]
        )
        failures.add_metric(["postgres"], board.get("flush", "breaker_failures"))
        yield from (state, moves, failures)

    def _histograms(self, board: Board) -> Iterable[Metric]:
        for table, field, name, text, scale in HISTOGRAMS:
            counts = board.histogram(table, field)
            last = max((at for at in range(64) if counts[at]), default=0)
            buckets = list[tuple[str, float]]()
            below = 0
            for at in range(min(last + 1, 63)):
                below += int(counts[at])
                # Bucket `at` holds values below 2^at, that is, up to 2^at - 1.
                buckets.append((f"{(2**at - (0 if scale != 1.0 else 1)) * scale:.9g}", below))
            buckets.append(("+Inf", int(counts.sum())))
            word = SUMS.get(name) or RECORD_SUMS[name]
            yield HistogramMetricFamily(
                name, text, buckets=buckets, sum_value=board.get(table, word) * scale
            )

    def _lines_dropped(self, board: Board, workers: int) -> Metric:
        family = CounterMetricFamily(
            "certeus_log_lines_dropped", "Lines that could not be logged at once.",
            labels=["process"],
        )  # fmt: skip
        family.add_metric(["supervisor"], logs.lines_dropped())
        for table in ("log", "flush"):
            family.add_metric([table], board.get(table, "log_lines_dropped_total"))
        for slot in range(workers):
            family.add_metric(
                [f"worker-{slot}"], board.get("worker", "log_lines_dropped_total", slot)
            )
        return family

    def _processes(self, processes: list[Process]) -> Iterable[Metric]:
        up = GaugeMetricFamily("certeus_process_up", "1 while ready.", labels=["process"])
        restarts = CounterMetricFamily("certeus_restarts", "Restarts.", labels=["process"])
        memory = GaugeMetricFamily(
            "certeus_process_resident_bytes", "Resident memory.", labels=["process"]
        )
        for process in processes:
            up.add_metric([process.name], float(process.ready))
            restarts.add_metric([process.name], process.restarts)
            memory.add_metric([process.name], process.rss_bytes)
        yield from (up, restarts, memory)


def render(backend: Backend) -> str:
    """Return the text of one scrape."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(BoardCollector(backend))
    return generate_latest(registry).decode()
