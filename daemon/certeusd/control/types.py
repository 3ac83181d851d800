"""What the control API says: msgspec Structs, from which `/openapi.json` is made.

Additive only: a key keeps its name and meaning within one `schema_version`. Times are RFC 3339,
UTC.
"""

from datetime import UTC, datetime

import msgspec

SCHEMA_VERSION = 1


class Reason(msgspec.Struct, frozen=True):
    """Why the service is degraded, and what to do."""

    code: str
    since: str
    what: str
    next: str


class Dedup(msgspec.Struct, frozen=True):
    """The window in which a retry by `(tenant, source, id)` is recognised."""

    from_seq: int
    from_time: str | None
    keys: int


class Process(msgspec.Struct, frozen=True):
    """One child process."""

    name: str
    role: str
    index: int
    pid: int | None
    """None between two lives."""
    ready: bool
    since: str | None
    restarts: int
    crash_loop: bool
    cpu: int | None
    """The CPU that it is pinned to."""
    cpu_percent: float
    rss_bytes: int
    counters: dict[str, int]
    affinity: str | None = None
    """Where its main thread may run by now, such as `0-3`; None between two lives."""
    rejected: dict[str, int] = {}
    """By reason, of a worker; those that are 0 are left out."""
    histograms: dict[str, list[int]] = {}
    """Bucket `b` counts values below `2^b` (nanoseconds, or records), without the empty ones at
    the end: `ack_ns` (from reading an event to its verdict), `sync_ns`, `batch_ns`, ..."""


class Breaker(msgspec.Struct, frozen=True):
    """Whether the destination is tried: `closed`, `open` or `half-open`."""

    state: str
    since: str
    """When it was closed, or when it ceased to be."""
    failures: int
    """Since the last delivery."""
    cause: str | None
    """Of the last failure: `away`, `refuses`, `broken`, `dead-letter-rate`, ..."""
    next_attempt_at: str | None
    """While open; none: not before `certeus retry`."""


class Postgres(msgspec.Struct, frozen=True):
    """The destination; `embedded` or `external`."""

    mode: str
    state: str
    """`making`, `starting`, `ready`, `away`, `stopping`, `stopped`."""
    since: str
    version: str | None
    connected: bool
    what: str = ""
    breaker: Breaker | None = None


class Log(msgspec.Struct, frozen=True):
    """The log on disk."""

    bytes: int
    bytes_max: int
    segments: int
    first_seq: int
    full: bool
    disk_free_bytes: int = 0
    """As the log writer saw it last."""
    disk_short: bool = False
    """The disk is down to its reserve: the log makes no segment."""
    groups_total: int = 0
    records_total: int = 0
    rejected_total: int = 0
    duplicates_total: int = 0
    stale_total: int = 0
    """Records of an older session epoch, dropped."""
    torn_total: int = 0
    damaged_total: int = 0


class Recovery(msgspec.Struct, frozen=True):
    """How far the start of the log writer is; only while the state is `recovering`."""

    phase: str
    """`waiting` (no log writer is at it), `looking`, `reading`, `opening`."""
    segments: int
    """To be read: the others are known by their headers."""
    segments_done: int
    bytes: int
    """Of the segments that have no sidecar."""
    bytes_done: int


class Bottleneck(msgspec.Struct, frozen=True):
    """The stage that holds the others up."""

    stage: str
    """`ingest`, `commit` or `deliver`."""
    what: str


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """`certeus status`."""

    schema_version: int = SCHEMA_VERSION
    version: str
    pid: int
    state: str
    since: str
    uptime_seconds: float
    reasons: list[Reason]
    log_id: str | None
    durable_seq: int
    accepted_seq: int
    flushed_seq: int
    lag_events: int
    lag_seconds: float
    sessions: int
    producers: int
    dedup: Dedup
    log: Log
    recovery: Recovery | None = None
    postgres: Postgres
    workers: list[Process]
    processes: list[Process]
    """Log writer and flusher."""
    reports: dict[str, dict[str, object]]
    """The newest report of each kind: `recovery`, `postgres`, ..."""
    state_dir: str
    runtime_dir: str
    warnings: list[str]
    pending: list[str] = []
    """Keys of the configuration that wait for the next start."""
    bottleneck: Bottleneck | None = None
    """None: nobody waits."""


class Health(msgspec.Struct, frozen=True):
    """Whether it lives, or takes events."""

    schema_version: int
    ok: bool
    state: str
    since: str


class Workers(msgspec.Struct, frozen=True):
    """`certeus workers`."""

    schema_version: int
    workers: list[Process]


class Producer(msgspec.Struct, frozen=True, kw_only=True):
    """One producer's session; sums are over the session's life, a reconnect begins another one."""

    worker: int
    session: int
    """Names it within one life of the worker."""
    tenant: str
    source: str
    uid: int
    pid: int
    """By the kernel, when it connected."""
    since: str
    events_total: int
    bytes_total: int
    settled_total: int
    """Events whose verdict is out."""
    duplicates_total: int
    rejected: dict[str, int]
    """By reason."""
    in_flight: int
    """Events read and without a verdict."""
    ring_bytes: int
    ring_used_bytes: int
    ack_p50_seconds: float | None
    """From reading an event to its verdict; true to a factor of two. None: nothing is settled."""
    ack_p99_seconds: float | None
    ack_ns_buckets: list[int]
    """Bucket `b` counts events that waited less than `2^b` nanoseconds."""


class Producers(msgspec.Struct, frozen=True):
    """`certeus producers`."""

    schema_version: int
    producers: list[Producer]
    unanswered: list[str]
    """Workers that did not tell all of theirs within a second."""


class Dsn(msgspec.Struct, frozen=True):
    """`certeus dsn`."""

    schema_version: int
    dsn: str


class Waited(msgspec.Struct, frozen=True):
    """What was waited for is so."""

    schema_version: int
    until: str
    seq: int
    """The `seq` that had to be reached; 0 for `ready`."""
    durable_seq: int
    flushed_seq: int
    seconds: float


class FollowerRow(msgspec.Struct, frozen=True):
    """One follower of the log, by its position file."""

    name: str
    required: bool
    """The log is trimmed only behind it."""
    state: str
    """`confirmed`; `none`: nothing yet; `damaged`: the file says nothing that can be believed."""
    seq: int
    group: int
    lag_events: int
    lag_bytes: int
    """Of complete segments with events that it has not confirmed."""
    confirmed_at: str | None
    holds_back: bool
    """Whether segments stay because of it."""


class Followers(msgspec.Struct, frozen=True):
    """`certeus followers`."""

    schema_version: int
    durable_seq: int
    followers: list[FollowerRow]


class Reloaded(msgspec.Struct, frozen=True, kw_only=True):
    """`certeus reload`: what holds now."""

    schema_version: int = SCHEMA_VERSION
    sources: list[str]
    """Files and variables, in their order."""
    changed: list[str]
    """Keys that hold now; their values may be secret."""
    restarted: list[str]
    """Children that began anew for it."""
    pending: list[str]
    """Keys that wait for the next start of the daemon."""
    seconds: float


class Key(msgspec.Struct, frozen=True):
    """One key of the configuration."""

    key: str
    """`section.key`; of the second `[[ingest]]` on `ingest[1].key`."""
    value: object
    origin: str
    """A file, a variable, or `default`."""


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """`certeus config show`: what the daemon runs with."""

    schema_version: int = SCHEMA_VERSION
    sources: list[str]
    """Files and variables, in the order in which they were read."""
    keys: list[Key]
    pending: list[str]
    """Keys that were changed and wait for the next start: `keys` has what holds."""


class Difference(msgspec.Struct, frozen=True):
    """A key that has another value in the files than in the daemon."""

    key: str
    running: object
    """None: there is no such key."""
    read: object
    origin: str
    needs_restart: bool
    """Whether a reload does not change it."""


class Differences(msgspec.Struct, frozen=True, kw_only=True):
    """`certeus config diff`: what a reload would find."""

    schema_version: int = SCHEMA_VERSION
    differences: list[Difference]


class Done(msgspec.Struct, frozen=True):
    """An order was taken."""

    schema_version: int
    done: str


class Problem(msgspec.Struct, frozen=True):
    """RFC 9457; `type` is a stable word behind `urn:certeus:problem:`."""

    type: str
    title: str
    status: int
    detail: str


class _BreakerReport(msgspec.Struct, frozen=True):
    """What the flusher tells of its breaker; seconds since 1970."""

    state: str
    since: float
    failures: int
    cause: str | None
    next_attempt_at: float | None


class _GapReport(msgspec.Struct, frozen=True):
    """What the flusher tells of the gap at which it is stopped."""

    first_seq: int
    last_seq: int


def breaker_of(report: dict[str, object] | None) -> Breaker | None:
    """Say what the flusher told of its breaker."""
    if not report:
        return None
    told = msgspec.convert(report, _BreakerReport)
    at = None if told.next_attempt_at is None else rfc3339(told.next_attempt_at)
    return Breaker(told.state, rfc3339(told.since), told.failures, told.cause, at)


def range_of(report: dict[str, object]) -> tuple[int, int]:
    """Return first and last number of the gap that the flusher told."""
    told = msgspec.convert(report, _GapReport)
    return told.first_seq, told.last_seq


def rfc3339(seconds: float) -> str:
    """Render seconds since 1970."""
    return (
        datetime.fromtimestamp(seconds, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )
