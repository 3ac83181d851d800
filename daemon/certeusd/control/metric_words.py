"""Which word of the board (`daemon/src/board.rs`) is which family of `/metrics`.

A histogram's bounds are the same for ever, whatever has been counted: powers of two from `first` to
`last`, which is where its values lie on any host that works.
"""

from typing import NamedTuple

NS = 1e-9
BUCKETS = 64


class Staged(NamedTuple):
    """A word of the board that counts events or bytes of a stage."""

    stage: str
    table: str
    field: str


class Histogram(NamedTuple):
    """Buckets of the board: bucket `b` holds values below `2^b`."""

    table: str
    field: str
    sum_field: str
    name: str
    help: str
    first: int
    last: int
    scale: float
    sum_scale: float

    def bound(self, at: int) -> str:
        """Return `le` of a bucket: of whole numbers it is the last one below."""
        return f"{(2**at - (1 if self.scale == 1.0 else 0)) * self.scale:.9g}"


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
VERDICTS = (
    ("accepted", "records_total"),
    ("duplicate", "duplicates_total"),
    ("rejected", "rejected_total"),
)
ID_CONFLICT = "id_conflict_total"
REJECTIONS = (
    "malformed_event_total",
    "invalid_json_total",
    "invalid_utf8_total",
    "too_large_total",
    "too_deep_total",
    "nul_character_total",
    "lone_surrogate_total",
    "number_out_of_range_total",
    "invalid_time_total",
    "invalid_attribute_total",
    "invalid_extensions_total",
    "source_not_allowed_total",
    ID_CONFLICT,
)
VIOLATIONS = ("position", "length", "kind", "ticket")
BREAKER_STATES = ("closed", "open", "half-open")
"""In the order of the board's `breaker_state`, from 1 on; 0: there is no flusher."""

# (field, name, help) of plain words.
WORKER_COUNTERS = (
    ("sessions_total", "certeus_sessions_opened", "Sessions opened."),
    ("refused_total", "certeus_sessions_refused", "Sessions refused at hello."),
    ("ended_total", "certeus_sessions_ended", "Sessions ended."),
    ("settled_total", "certeus_tickets_settled", "Tickets whose verdict is out."),
    ("wakeups_total", "certeus_worker_wakeups", "Returns of a worker from sleep."),
    ("bells_total", "certeus_bells", "Bells rung to clients."),
    ("forward_full_total", "certeus_forward_full", "Waits for room towards the log writer."),
)
WORKER_GAUGES = (
    ("sessions", "certeus_sessions", "Sessions open."),
    ("active_sessions", "certeus_active_sessions", "Sessions at work in the last second."),
    ("ring_bytes", "certeus_ring_bytes", "Bytes of client rings."),
    ("in_flight", "certeus_in_flight_events", "Events forwarded and not settled."),
)
DOOR_COUNTERS = (
    ("events_total", "certeus_door_events", "Events handed over to a ring."),
    ("bytes_total", "certeus_door_bytes", "Bytes handed over to a ring."),
    ("refused_total", "certeus_door_refused_events", "What came and could not be taken."),
    (
        "dropped_total",
        "certeus_door_dropped_events",
        "What the kernel had to drop.",
    ),
    ("connections_total", "certeus_door_connections_opened", "Connections opened."),
    ("turned_away_total", "certeus_door_connections_turned_away", "Connections too many."),
)
DOOR_GAUGES = (("connections", "certeus_door_connections", "Connections open."),)
LOG_COUNTERS = (
    ("groups_total", "certeus_groups", "Groups synced."),
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
    ("dead_letters_total", "certeus_dead_letters", "Events that PostgreSQL refused."),
    ("reconnects_total", "certeus_postgres_reconnects", "Connections made again."),
)
HISTOGRAMS = (
    Histogram("worker", "ack_ns_buckets_64", "ack_us_sum", "certeus_ack_seconds",
              "From reading an event to publishing its verdict.", 14, 34, NS, 1e-6),
    Histogram("log", "sync_ns_buckets_64", "sync_ns_sum", "certeus_sync_seconds",
              "One sync of the log.", 14, 34, NS, NS),
    Histogram("log", "group_records_buckets_64", "records_total", "certeus_group_records",
              "Records of a group.", 1, 20, 1.0, 1.0),
    Histogram("flush", "batch_ns_buckets_64", "commit_ns_sum", "certeus_batch_seconds",
              "One batch to its commit.", 18, 37, NS, NS),
    Histogram("flush", "batch_rows_buckets_64", "rows_total", "certeus_batch_rows",
              "Rows of a batch.", 1, 20, 1.0, 1.0),
    Histogram("flush", "delivery_ns_buckets_64", "delivery_ms_sum", "certeus_delivery_seconds",
              "From an event's record to its commit in PostgreSQL, at most.", 20, 42, NS, 1e-3),
)  # fmt: skip
