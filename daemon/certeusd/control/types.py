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
    """A stable word: docs/operating.md, "Reasons"."""
    since: str
    what: str
    """What happened, for humans."""
    next: str
    """What to do."""


class Dedup(msgspec.Struct, frozen=True):
    """The window in which a retry by `(tenant, source, id)` is recognised."""

    from_seq: int
    """Each id recorded from here on is known."""
    from_time: str | None
    """When that was recorded; None: nothing was yet."""
    keys: int
    """Ids that are known."""


class Process(msgspec.Struct, frozen=True):
    """One child process."""

    name: str
    """Such as `worker-0`."""
    role: str
    """`worker`, `log` or `flush`."""
    index: int
    """From 0 on, of its role."""
    pid: int | None
    """None between two lives."""
    ready: bool
    """It is at work."""
    since: str | None
    """When this life began; None between two lives."""
    restarts: int
    """Ends that nobody asked for, since the daemon started."""
    crash_loop: bool
    """It ends again and again: one try a second."""
    cpu: int | None
    """The CPU that it is pinned to."""
    cpu_percent: float
    """Processor time of the last second, of one CPU."""
    rss_bytes: int
    """Resident memory, shared rings in it."""
    counters: dict[str, int]
    """What it has counted on the board, by name."""
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
    """`embedded` or `external`."""
    state: str
    """`making`, `starting`, `ready`, `away`, `stopping`, `stopped`."""
    since: str
    """When the state began."""
    version: str | None
    """Of the server; None: not known yet."""
    connected: bool
    """The flusher has a connection."""
    what: str = ""
    """Why the embedded server is away."""
    breaker: Breaker | None = None
    """None: the flusher has not told yet."""


class Log(msgspec.Struct, frozen=True):
    """The log on disk."""

    bytes: int
    """Of all segments."""
    bytes_max: int
    """What they may take: `log.bytes_max`, or what that came to."""
    segments: int
    """How many there are."""
    first_seq: int
    """The oldest number that the log holds."""
    full: bool
    """It has reached its bound: producers wait."""
    disk_free_bytes: int = 0
    """As the log writer saw it last."""
    disk_short: bool = False
    """The disk is down to its reserve: the log makes no segment."""
    groups_total: int = 0
    """Groups synced."""
    records_total: int = 0
    """Events logged."""
    rejected_total: int = 0
    """Events rejected."""
    duplicates_total: int = 0
    """Events that were there already."""
    stale_total: int = 0
    """Records of an older session epoch, dropped."""
    torn_total: int = 0
    """Unfinished groups found at recovery."""
    damaged_total: int = 0
    """Damaged groups put into quarantine."""


class Recovery(msgspec.Struct, frozen=True):
    """How far the start of the log writer is; only while the state is `recovering`."""

    phase: str
    """`waiting` (no log writer is at it), `looking`, `reading`, `opening`."""
    segments: int
    """To be read: the others are known by their headers."""
    segments_done: int
    """Of these, read."""
    bytes: int
    """Of the segments that have no sidecar."""
    bytes_done: int
    """Of these, read."""


class Bottleneck(msgspec.Struct, frozen=True):
    """The stage that holds the others up."""

    stage: str
    """`ingest`, `commit` or `deliver`."""
    what: str
    """Why, for humans."""


class Scaling(msgspec.Struct, frozen=True):
    """How many workers there are, and how many there may be."""

    min: int
    """There are never fewer."""
    max: int
    """There are never more; the same as `min`: their number does not change."""
    current: int
    """How many there are to be now."""
    why: str
    """Why it is this number, for humans."""
    since: str
    """When it became this number."""
    ups_total: int = 0
    """Times that there came to be more."""
    downs_total: int = 0
    """Times that there came to be fewer."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """`certeus status`."""

    schema_version: int = SCHEMA_VERSION
    version: str
    """Of certeus."""
    pid: int
    """Of the supervisor."""
    state: str
    """`starting`, `recovering`, `ready`, `degraded` or `draining`."""
    since: str
    """When the state began."""
    uptime_seconds: float
    reasons: list[Reason]
    log_id: str | None
    """Name of the log; None: not read yet."""
    durable_seq: int
    """The last number that is synced."""
    accepted_seq: int
    """The last number that was given: synced, or about to be."""
    flushed_seq: int
    """The last number that is in PostgreSQL."""
    lag_events: int
    """Durable and not in PostgreSQL."""
    lag_seconds: float
    sessions: int
    """Producers that are connected."""
    producers: int
    """Producers that are known, connected or not."""
    dedup: Dedup
    log: Log
    recovery: Recovery | None = None
    """None: no start is under way."""
    postgres: Postgres
    workers: list[Process]
    """One row a worker."""
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
    scaling: Scaling | None = None
    """None: a daemon that does not tell."""


class Health(msgspec.Struct, frozen=True):
    """Whether it lives, or takes events."""

    schema_version: int
    ok: bool
    """True: anything else is a problem, with 503."""
    state: str
    """The daemon's."""
    since: str
    """When the state began."""


class Workers(msgspec.Struct, frozen=True):
    """`certeus workers`."""

    schema_version: int
    workers: list[Process]
    scaling: Scaling | None = None
    """None: a daemon that does not tell."""


class Producer(msgspec.Struct, frozen=True, kw_only=True):
    """One producer's session; sums are over the session's life, a reconnect begins another one."""

    worker: int
    """Number of the worker that serves it."""
    session: int
    """Names it within one life of the worker."""
    tenant: str
    """By the rule of `[[ingest]]` that let it in."""
    source: str
    """As it named itself at hello."""
    uid: int
    """By the kernel, when it connected."""
    pid: int
    """By the kernel, when it connected."""
    since: str
    """When it connected."""
    events_total: int
    """Events read."""
    bytes_total: int
    """Bytes of accepted events, as they lay in the ring."""
    settled_total: int
    """Events whose verdict is out."""
    duplicates_total: int
    """Events that were there already."""
    rejected: dict[str, int]
    """By reason."""
    in_flight: int
    """Events read and without a verdict."""
    ring_bytes: int
    """Size of its ring."""
    ring_used_bytes: int
    """What of it has no verdict yet."""
    ack_p50_seconds: float | None
    """From reading an event to its verdict; true to a factor of two. None: nothing is settled."""
    ack_p99_seconds: float | None
    """As `ack_p50_seconds`."""
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
    """URL for psql; with a password only if that was asked for."""


class Waited(msgspec.Struct, frozen=True):
    """What was waited for is so."""

    schema_version: int
    until: str
    """`ready`, `durable` or `flushed`."""
    seq: int
    """The `seq` that had to be reached; 0 for `ready`."""
    durable_seq: int
    flushed_seq: int
    seconds: float
    """How long it took."""


class FollowerRow(msgspec.Struct, frozen=True):
    """One follower of the log, by its position file."""

    name: str
    """Of its file in `followers/`."""
    required: bool
    """The log is trimmed only behind it."""
    state: str
    """`confirmed`; `none`: nothing yet; `damaged`: the file says nothing that can be believed."""
    seq: int
    """The last number that it has confirmed."""
    group: int
    """The group of that number."""
    lag_events: int
    """Durable and not confirmed."""
    lag_bytes: int
    """Of complete segments with events that it has not confirmed."""
    confirmed_at: str | None
    """When it confirmed last; None: never."""
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
    """How long it took."""


class Key(msgspec.Struct, frozen=True):
    """One key of the configuration."""

    key: str
    """`section.key`; of the second `[[ingest]]` on `ingest[1].key`."""
    value: object
    """What holds."""
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
    """`section.key`."""
    running: object
    """None: there is no such key."""
    read: object
    """What files and variables say; None: there is no such key."""
    origin: str
    """A file, a variable, or `default`."""
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
    """What, for humans."""


class Problem(msgspec.Struct, frozen=True):
    """RFC 9457; `type` is a stable word behind `urn:certeus:problem:`."""

    type: str
    title: str
    """The same for each `type`."""
    status: int
    """HTTP's."""
    detail: str
    """Why, and what to do: for humans."""


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
