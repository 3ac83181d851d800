"""What `daemon/src` gives to Python; built by Cargo, no policy in it."""

import builtins
from collections.abc import Callable
from os import PathLike
from typing import Literal, TypedDict

BOARD: dict[str, tuple[int, dict[str, int]]]
"""`{table: (first page, {field: word index})}` of `daemon/src/board.rs`, names in lower case."""

BOARD_PAGES: int
"""Pages of 4096 bytes of the board."""

COPY_COLUMNS: list[str]
"""The columns of `certeus.events`, in the order in which `Batch.copy` encodes them."""

class Event(TypedDict):
    """One event as the log holds it; what the producer did not give is `None`."""

    seq: int
    group: int
    recorded_at_ns: int
    tenant: str | None
    source: str | None
    id: str | None
    type: str | None
    subject: str | None
    time: str | None
    dataschema: str | None
    datacontenttype: str | None
    extensions: str | None
    """A flat JSON object, as text."""
    verdict: str
    producer_no: int
    ticket: int
    opaque: bool
    data: bytes

class Oldest(TypedDict):
    """Header of the oldest segment: what is before it is trimmed."""

    log_uuid: bytes
    segment_no: int
    created_at_ns: int
    epoch: int
    before_group: int
    before_next_seq: int
    before_root: bytes

class SegmentSummary(TypedDict):
    """What one segment holds; numbers are 0 where it holds no group."""

    segment_no: int
    created_at_ns: int
    epoch: int
    file_bytes: int
    used_bytes: int
    groups: int
    records: int
    first_group: int
    last_group: int
    first_seq: int
    last_seq: int
    recorded_at_ns: int

class Finding(TypedDict):
    """One thing that a check found; `reason` is a stable word, 0..0: no number is missing."""

    segment_no: int
    offset: int
    bytes: int
    first_seq: int
    last_seq: int
    reason: str

class CheckReport(TypedDict):
    """Everything that a check found; JSON-able."""

    ok: bool
    roots_checked: bool
    tail_bytes: int
    """Behind the last group, neither group nor zeros: never acknowledged, or under way."""
    groups: int
    records: int
    segments: list[SegmentSummary]
    findings: list[Finding]

class LogReader:
    """Reads the groups of a log in order. One thread at a time; holds one segment open."""

    def __init__(self, log_dir: str | PathLike[str]) -> None: ...
    def position_status(
        self, group: int, root: bytes, seq: int
    ) -> Literal["ok", "start", "diverged", "behind-log"]:
        """Whether a follower's position belongs to this log. `OSError`: the log cannot be read."""

    def seek(self, group: int, seq: int | None = None, root: bytes | None = None) -> None:
        """Go on behind `group` (0: from the start). Without `seq` and `root` the log must hold it.

        Raises:
            ValueError: it does not.
        """

    def next_batch(self, durable_seq: int, rows_max: int, bytes_max: int) -> Batch | None:
        """Whole durable groups of one UTC day: within both bounds, but at least one group.

        A gap is a batch without rows. `None`: nothing more is durable, or `stalled` says where.

        Raises:
            OSError: a file cannot be read; trying again is safe.
            ValueError: the log holds what this version cannot read.
        """

    @property
    def next_seq(self) -> int:
        """The first number that was not read yet."""

    @property
    def stalled(self) -> tuple[int, int] | None:
        """Segment and offset of durable bytes that cannot be read, with nothing behind them yet."""

    def oldest(self) -> Oldest | None:
        """`None`: there is no log yet."""

    def segments(self) -> list[SegmentSummary]: ...
    def check(
        self, progress: Callable[[int, int], object] | None = None, log_key: bytes | None = None
    ) -> CheckReport:
        """Verify CRCs, chain and density; with the log's key the roots too.

        Args:
            progress: called with segments done and segments in all.
            log_key: 32 bytes, or nothing.
        """

class Batch:
    """Whole groups, immutable; owns its bytes."""

    @property
    def first_seq(self) -> int: ...
    @property
    def last_seq(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def group(self) -> int: ...
    @property
    def root(self) -> bytes: ...
    @property
    def epoch(self) -> int: ...
    @property
    def segment_no(self) -> int: ...
    @property
    def recorded_at_ns(self) -> int:
        """Of the earliest group; 0 without rows."""

    @property
    def day(self) -> int:
        """UTC day of all rows, as YYYYMMDD."""

    @property
    def bytes(self) -> int: ...
    @property
    def gaps(self) -> list[tuple[int, int, str]]:
        """First and last missing number, and the reason's word."""

    def copy(
        self, first_row: int, end_row: int, chunk_bytes: int, log_id: int, jsonb: bool = False
    ) -> list[builtins.bytes]:
        """Encode the rows `first_row..end_row` (half open) as one complete binary COPY stream."""

    def event(self, row: int) -> Event: ...
    def record(self, row: int) -> builtins.bytes:
        """Return the logged bytes that the row's leaf covers."""

class FollowerPage:
    """What a follower reads and publishes on the board. `board_fd` is lent for the call."""

    def __init__(self, board_fd: int) -> None: ...
    def durable_seq(self) -> int: ...
    def want(self, seq: int) -> int:
        """Publish at which durable seq to be woken, fence, and return the durable seq."""

    def publish(self, seq: int, group: int) -> None:
        """Tell how far PostgreSQL is."""

    def allow_trim(self, segment_no: int) -> None:
        """Let the log writer take segments below this one; the synced position file says so too."""

class SegmentBuilder:
    """Makes segments without a log writer, unsynced: for tests and tools."""

    def __init__(self, log_dir: str | PathLike[str], log_uuid: bytes, log_key: bytes) -> None: ...
    @property
    def next_seq(self) -> int: ...
    def segment(self, before_next_seq: int | None = None, copy_last: bool = False) -> int: ...
    def producer(self, producer_no: int, tenant: str, source: str, uid: int = 0) -> None: ...
    def record(
        self,
        producer_no: int,
        ticket: int,
        event_type: str,
        data: bytes,
        *,
        id: str | None = None,
        subject: str | None = None,
        time: str | None = None,
        source: str | None = None,
        dataschema: str | None = None,
        content_type: str | None = None,
        extensions: str | None = None,
        opaque: bool = False,
        escalated: bool = False,
        kind: int = 0,
    ) -> None: ...
    def commit(self, recorded_at_ns: int) -> tuple[int, bytes, int, int, int, int, int]:
        """Group, root, first and last seq, segment, offset and bytes on disk."""
