"""What `daemon/src` gives to Python; built by Cargo, no policy in it.

Longer than 500 lines: one module has one stub.
"""

import builtins
from collections.abc import Callable, Sequence
from os import PathLike
from typing import Literal, Self, TypedDict, final

BOARD: dict[str, tuple[int, dict[str, int]]]
"""`{table: (first page, {field: word index})}` of `daemon/src/board.rs`, names in lower case."""

BOARD_PAGES: int
"""Pages of 4096 bytes of the board."""

FAILPOINTS: list[str]
"""Every name of `daemon/src/failpoint.rs`."""

COPY_COLUMNS: list[str]
"""The columns of `certeus.events`, in the order in which `Batch.copy` encodes them."""

SCHEMA_VERSION: int
"""Of the lines that `Batch.render` makes."""

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

class LogFile(TypedDict):
    """One number of the log's directory; `keys`, `first_seq` and `last_seq` are its sidecar's."""

    segment_no: int
    state: Literal["sealed", "active", "spare", "damaged", "trimmed"]
    file_bytes: int
    sidecar: Literal["whole", "damaged", "none"]
    sidecar_bytes: int
    keys: int
    first_seq: int
    last_seq: int

class RecordPlace(TypedDict):
    """Where a record stands; what only the log's key can tell is `None` without it."""

    seq: int
    offset: int
    bytes: int
    uid: int | None
    leaf: bytes | None
    dedup_key: bytes | None
    dedup_digest: int | None

class GroupView(TypedDict):
    """One group as it stands in its segment."""

    segment_no: int
    offset: int
    bytes: int
    group: int
    first_seq: int
    last_seq: int
    recorded_at_ns: int
    epoch: int
    entries: int
    chain: bytes
    hash: bytes
    root: bytes
    root_matches: bool | None
    records: list[RecordPlace]

class StartPlan(TypedDict):
    """What a start would do."""

    label: str
    torn: bool
    next_seq: int
    segment_no: int
    older: list[tuple[int, str]]
    gaps: list[tuple[int, int, str]]
    changes: list[tuple[Literal["write", "rename", "unlink"], str, str | None]]

def log_begins(log_dir: str | PathLike[str]) -> list[tuple[int, int, int, int, bytes]]:
    """Segments by their headers: number, bytes; group, next seq and root of the log before it."""

def log_files(log_dir: str | PathLike[str]) -> list[LogFile]:
    """Return every number that has a segment or a sidecar, ascending."""

def log_group_of(
    log_dir: str | PathLike[str], seq: int, log_key: bytes | None = None
) -> GroupView | None:
    """Return the whole group that holds `seq`; `None`: no whole group of the log does."""

def log_plan(
    log_dir: str | PathLike[str],
    quarantine_dir: str | PathLike[str],
    log_key: bytes,
    dedup_keys: int,
    dedup_producers: int,
    *,
    follower_group: int,
    follower_seq: int,
    follower_root: bytes,
) -> StartPlan:
    """Recover the log as a start does, and change nothing. `OSError`: what the disk refuses."""

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

    def seek_seq(self, seq: int) -> None:
        """Go on at the group that holds the first number above `seq`, once that is durable.

        That group comes whole: `Batch.render` leaves out what is not above `after_seq`. What was
        trimmed from there on is the first gap. Headers tell the segment; of that one, only groups
        with entries are read.
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

    @staticmethod
    def of_record(
        record: builtins.bytes, seq: int, recorded_at_ns: int, producer: tuple[str, str] | None
    ) -> Batch:
        """Return one event by itself; `record` is what `Batch.record` gave, and is copied.

        Args:
            record: the logged bytes.
            seq: its number.
            recorded_at_ns: of its group.
            producer: tenant and source; `None`: not known, as after damage.

        Raises:
            ValueError: that is no event.
        """

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
    ) -> CopyStream:
        """Encode the rows `first_row..end_row` (half open) as one complete binary COPY stream."""

    def render(
        self,
        filter: Filter,
        form: Literal["lines", "events", "sse"],
        *,
        after_seq: int = 0,
        until_seq: int | None = None,
        limit: int | None = None,
        bytes_max: int | None = None,
        versioned: bool = False,
        gaps: bool = True,
    ) -> Rendered:
        """Render what the filter takes, without making an object an event.

        `lines` is one JSON object a line, `events` the same as a CloudEvent; a gap is
        `{"gap": {"first_seq", "last_seq", "reason"}}`.
        `sse` is server-sent events with `id` the event's seq; a gap is an `event: gap`; where the
        last numbers were not taken, an `id:` alone moves the client's Last-Event-ID.

        Args:
            filter: which events; gaps pass every filter.
            form: of the bytes.
            after_seq: nothing up to it is told.
            until_seq: nothing beyond it is told.
            limit: events, at least 1.
            bytes_max: at least 1; kept but for one event that is larger by itself.
            versioned: `schema_version` first in each line.
            gaps: whether they stand in the bytes too.

        Raises:
            ValueError: no such form, or a limit of nothing.
        """

    def event(self, row: int) -> Event: ...
    def record(self, row: int) -> builtins.bytes:
        """Return the logged bytes that the row's leaf covers."""

class Filter:
    """Which events are rendered; immutable.

    Args:
        tenant: exactly; an event whose producer is not known, after damage, is of no tenant.
        type: exactly, or with a trailing `*` how it begins.
        source: the same.
    """

    def __init__(
        self, *, tenant: str | None = None, type: str | None = None, source: str | None = None
    ) -> None: ...

class Rendered:
    """Some events as text."""

    @property
    def bytes(self) -> builtins.bytes:
        """UTF-8."""

    @property
    def events(self) -> int: ...
    @property
    def last_seq(self) -> int:
        """The last number that was looked at; never less than `after_seq`."""

    @property
    def more(self) -> bool:
        """The batch goes on behind `last_seq`."""

    @property
    def gaps(self) -> list[tuple[int, int, str]]:
        """Of the numbers that were looked at: first, last and the reason's word."""

class CopyStream:
    """A COPY stream in chunks, encoded one at a time as they are taken. Once only."""

    def __iter__(self) -> Self: ...
    def __next__(self) -> builtins.bytes: ...

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

def check_json(data: bytes, depth_max: int) -> str | None:
    """Why PostgreSQL would not take `data` as JSON, as the stable word; `None`: it would."""

def check_text(text: bytes) -> str | None:
    """Why `text` cannot stand in an attribute, its length aside; `None`: it can."""

def parse_time(text: bytes) -> int | None:
    """Microseconds since 2000-01-01 UTC of an RFC 3339 time; `None`: none that the log takes."""

def shorten_slice() -> bool:
    """Shorten the calling thread's time slice; False: this kernel knows no such thing.

    Raises:
        OSError: it is forbidden.
    """

@final
class DatagramBuffer:
    """Memory for the datagram that is being received; one that is longer does not fit."""

    def __new__(cls, bytes: int) -> DatagramBuffer: ...

@final
class Datagrams:
    """What one sender sent, in order."""

    def __new__(cls, datagrams: Sequence[bytes]) -> Datagrams: ...
    def __len__(self) -> int: ...

def recv_datagrams(
    fd: int, buffer: DatagramBuffer, count_max: int, bytes_max: int
) -> tuple[list[tuple[tuple[int, int] | None, Datagrams]], int]:
    """Take datagrams that a socket holds; never waits.

    Args:
        fd: A datagram socket, lent.
        buffer: Lent.
        count_max: At least 1.
        bytes_max: It stops behind the datagram with which there are so many.

    Returns:
        Runs of one sender, in order: its uid and primary gid, where the socket has `SO_PASSCRED`,
        and what it sent. And how many datagrams did not fit: they are gone.

    Raises:
        BlockingIOError: Nothing is there.
        OSError: Nothing was taken.
    """

@final
class Encoded:
    """What became of one block: payloads for `Ring.append_payloads`, and what was refused."""

    @property
    def payloads(self) -> bytes:
        """A sequence of `bytes u32, little-endian | payload` (`ipc/src/record.rs`)."""

    @property
    def count(self) -> int:
        """Payloads in it, in the order of the events."""

    @property
    def seen(self) -> int:
        """Events of the input, refused ones included: `count + len(refused)`."""

    @property
    def refused(self) -> list[tuple[int, str]]:
        """Index among those seen, ascending, and a stable word.

        The words of verdicts (`certeus_ipc::verdict::Reason`), where one fits, and the door's own:
        `specversion`, `missing-id`, `missing-source`, `missing-type`, `invalid-base64`,
        `data-and-base64`, `reserved-name`, `not-an-object`, `cut-off`, `no-field-NAME`,
        `field-NAME-is-no-text`, `invalid-protobuf`.
        """

    @property
    def consumed(self) -> int:
        """Bytes of the input that were used: give the rest again, before what comes next."""

@final
class OtlpLogs:
    """The parts of a request to export logs, made one by one: `DoorEncoder.otlp_logs`.

    Each has about a MiB of payloads at most, however much the whole request is once each record
    has its resource; an empty one may be among them. None is made without the GIL being free, but
    of bodies below 4 KiB.
    """

    @staticmethod
    def held_bytes_max(body: bytes, json: bool) -> int:
        """Return the most bytes that are held beside a body while parts are made of it."""

    def __iter__(self) -> OtlpLogs: ...
    def __next__(self) -> Encoded: ...

@final
class DoorEncoder:
    """Makes payloads of what comes in a known format; holds no state but its rules.

    What it refuses is what cannot be handed on. All else is the worker's to judge: depth, numbers
    and times of an event that is encoded may still be told by its verdict. Blocks of 4 KiB and more
    are encoded without the GIL.
    """

    def __new__(cls, event_bytes_max: int, source: str, sources: Sequence[str]) -> DoorEncoder:
        """Fix the rules of one session.

        Args:
            event_bytes_max: The most bytes of data, as the welcome says (2 MiB at most); more is
                `too-large`.
            source: The session's own source: an event that has it, or none, carries none.
            sources: Names, or prefixes that end in `*`, of sources that an event may name, the own
                one among them; else `source-not-allowed`.

        Raises:
            ValueError: event_bytes_max is larger than any ring.
        """

    @property
    def payload_bytes_max(self) -> int:
        """The longest payload that can come out; a ring takes an eighth of itself less 16 bytes."""

    def data_lines(
        self,
        block: bytes,
        type: str,
        source: str | None = None,
        id_field: str | None = None,
        subject_field: str | None = None,
        final: bool = False,
    ) -> Encoded:
        r"""Take each line as the data of an event, as `certeus append` does.

        A line is a JSON object; its own bytes are the data. It ends in LF or CR LF. Lines of
        nothing but white space are skipped and not counted. It is parsed only for a field.

        Args:
            block: Whole lines, and perhaps the beginning of one, which is not consumed. Whoever
                reads bounds what one line may have: nothing is consumed of a block without an LF.
            type: Of each event.
            source: Of each event; none: the session's own.
            id_field: The member that is the event's id: a string, or an integer as it is written.
                A name that stands twice counts where it stands last.
            subject_field: The same for its subject.
            final: Nothing comes behind this block: its end is the end of a line, too.
        """

    def cloudevents_lines(self, block: bytes, final: bool = False) -> Encoded:
        """Take each line as one CloudEvent in JSON; lines as for `data_lines`.

        Required are `specversion` "1.0", `id`, `source` and `type`, not empty. Extensions have
        names of `[a-z0-9]{1,20}` and strings, booleans or integers (64 bits). A member that is null
        was not given; a name that stands twice is `invalid-json`.

        `data` is logged by its own bytes, whatever its content type: text stays a JSON string.
        `data_base64` is logged as opaque bytes (without `datacontenttype`:
        `application/octet-stream`), but as JSON if that is its content type. An event with neither
        has the data `null`.

        What certeus shows of an event can be sent again: where there is `recorded_at`, or all of
        `seq`, `recordedat`, `tenant` and `verdict`, these and `schema_version` are left out;
        elsewhere they are refused (`reserved-name`).
        """

    def cloudevents_batch(self, body: bytes, begin: int = 0) -> Encoded:
        """Take each element of a JSON array as one CloudEvent; a bad one does not harm the rest.

        A part of them: some thousands, or about 64 KiB of the body.

        Args:
            body: All of it, for each part.
            begin: Where the part before has consumed. All is consumed with the last one.

        Raises:
            ValueError: of the first part: the body is no array, or has no end.
        """

    def otlp_logs(self, body: bytes, json: bool) -> OtlpLogs:
        """Take each log record of OTLP's `ExportLogsServiceRequest` as one event.

        What of a record becomes which attribute: docs/otlp.md. An id has none: OTLP knows of none.
        The frame of the body is looked through here, without the GIL.

        Args:
            body: Kept for as long as parts are made of it.
            json: Whether it is in OTLP's JSON; else in protobuf's binary notation.

        Raises:
            ValueError: the body as a whole is no such request.
        """

    def cloudevent(self, body: bytes) -> Encoded:
        """Take the body as one CloudEvent.

        Raises:
            ValueError: the body is no object, or has no end.
        """

    def syslog(
        self, datagrams: Datagrams, type: str = "syslog", source: str | None = None
    ) -> Encoded:
        """Take each datagram as one message: RFC 5424, RFC 3164, or any text.

        Nothing of a message is lost, and none is refused for what is in it. The data is an object
        with those of `priority`, `facility`, `severity`, `timestamp`, `hostname`, `appname`,
        `procid`, `msgid`, `structured_data`, `message`, `raw_base64` that it has
        (`daemon/src/door/syslog.rs`); the event's time is the message's where that has a year and a
        zone. It has no id. A datagram with nothing in it but line ends and NULs is not counted.
        """

    def syslog_stream(
        self,
        block: bytes,
        type: str = "syslog",
        source: str | None = None,
        frame_bytes_max: int = 65536,
        final: bool = False,
    ) -> Encoded:
        """Take each whole frame of a stream (RFC 6587) as one message, as `syslog` does.

        A frame has its length and a space before it, or ends in LF or NUL; each may differ from the
        last.
        A line longer than frame_bytes_max is taken in pieces of that size, so that a block of more
        bytes than that and 21 is always consumed from, or it raises.

        Args:
            block: Whole frames, and perhaps the beginning of one, which is not consumed.
            type: Of each event.
            source: Of each event; none: the session's own.
            frame_bytes_max: The most bytes of a message.
            final: Nothing comes behind this block. A message that has its length before it and is
                not whole is refused as `cut-off`.

        Raises:
            ValueError: the frame at the front claims to be longer than frame_bytes_max; where the
                next one would begin is not known. What was before it has been returned already.
        """

    def event(
        self,
        data: bytes | None,
        opaque: bool | None,
        type: str,
        id: str | None = None,
        subject: str | None = None,
        time: str | None = None,
        source: str | None = None,
        dataschema: str | None = None,
        content_type: str | None = None,
        extensions: str | None = None,
    ) -> Encoded:
        """Take one event whose attributes came apart, as in CloudEvents' binary mode.

        Nothing is required but the type; what a format asks for beyond that is its door's to see.

        Args:
            data: Its own bytes; none: there is no data, and `null` is logged.
            opaque: Whether data is bytes and not JSON; none: the content type says so. It is JSON
                where there is none, or `application/json`, or one that ends in `+json`.
            type: And the others: CloudEvents attributes; an empty one is refused.
            id: Key by which a retry is recognised, together with the source.
            subject: See type.
            time: RFC 3339.
            source: None: the session's own.
            dataschema: See type.
            content_type: Of data; needed where data is opaque, and then not that of JSON.
            extensions: A flat JSON object, as text.
        """

@final
class JournalDecoder:
    """Makes payloads of one stream of the journal's export format; holds what is unfinished of it.

    An entry is an event: its cursor is the id, its fields are the data, whatever their size
    (`daemon/src/door/journal.rs`).
    """

    def __new__(
        cls,
        encoder: DoorEncoder,
        type: str = "journal",
        own: str | None = None,
        after: str | None = None,
    ) -> JournalDecoder:
        """Begin a stream.

        Args:
            encoder: Whose rules hold.
            type: Of every event.
            own: The control group (`_SYSTEMD_CGROUP`) whose entries are no events.
            after: The cursor of an entry that is no event, since it was taken before.
        """

    def take(self, block: bytes) -> Encoded:
        """Take a block, which may end anywhere; all of it is consumed.

        Raises:
            ValueError: It is not the export format. Nothing of the block is told; begin again from
                the last cursor, with another decoder.
        """

    @property
    def cursor(self) -> str | None:
        """Of the last whole entry, whatever became of it."""

    @property
    def left_out(self) -> int:
        """Entries that were no events: own ones, and the one to begin behind."""

class Worker:
    """The kernel of one worker (`daemon/src/worker`). One thread uses it.

    Descriptors are lent for the call: what is needed longer is duplicated.
    """

    def __new__(
        cls, board_fd: int, index: int, log_key: bytes, event_bytes_max: int, depth_max: int
    ) -> Worker:
        """Map the board; `log_key` is 32 bytes."""

    def attach(
        self,
        pair_fd: int,
        forward_bytes: int,
        return_bytes: int,
        forward_bell_fd: int,
        return_bell_fd: int,
        /,
    ) -> None:
        """A log writer is there: map the pair and say hello for every session.

        Raises:
            OSError: the memory has not the size of such a pair; nothing is attached.
        """

    def detach(self) -> None:
        """The log writer is gone: forget all that it had not answered, wait for the next one."""

    def prepare(self, wishes: dict[str, bool], /) -> None:
        """Prepare every ring that is mapped from now on, as `[memory]` (its keys) says."""

    def prepared(self) -> list[tuple[str, str, int, int, int]]:
        """Kind of memory, key, bytes asked for, bytes that have it, errno; since the last call."""

    def watch(self, fd: int, /) -> None:
        """Make `run` return `("readable", fd)` while `fd` can be read."""

    def unwatch(self, fd: int, /) -> None:
        """Comes before `fd` is closed."""

    def add_session(
        self,
        *,
        p_fd: int,
        c_fd: int,
        e_fd: int,
        socket_fd: int,
        ring_bytes: int,
        uid: int,
        producer: bytes,
        tenant: str,
        source: str,
        allowed_sources: list[str],
        birth_seq: int | None,
        settled: int,
    ) -> int:
        """Begin a session, live after `welcomed`; C is sealed against writing after this.

        Args:
            p_fd: producer's memfd, lent for the call and mapped read-only.
            c_fd: consumer's memfd, lent for the call and mapped writable.
            e_fd: doorbell eventfd; duplicated.
            socket_fd: the session's socket, for bells; duplicated.
            ring_bytes: data bytes of P, a power of two.
            uid: the peer's, from the kernel.
            producer: 16 bytes.
            tenant: the listener's.
            source: the session's own, already allowed.
            allowed_sources: names, or prefixes that end in `*`, for events with their own source.
            birth_seq: what a resuming client was told when it was born; `None`: it is new.
            settled: the last ticket whose verdict the client has read, at most 2**62.

        Returns:
            The session's number, never that of another one that somebody still asks for.

        Raises:
            OSError: sizes that are not those of a ring, or too many sessions; nothing is kept.
        """

    def end_session(self, slot: int, clean: bool, /) -> None:
        """The client said goodbye (`clean`) or is gone; `closed` follows. Nobody: does nothing."""

    def drain(self) -> None:
        """Settle what each ring holds now, then end its session as `draining`."""

    def let_go(self, slots: list[int], /) -> None:
        """As `drain`, of these sessions; those that end by themselves, or have, do that."""

    def hand_over(self) -> int:
        """Drain every second live session, those at work lately first; the busiest stays.

        Sessions that drain by now count among those that go.

        Returns:
            How many go: `ended` as `draining` follows for each.
        """

    def in_flight(self) -> int:
        """Tickets read and not settled."""

    def session_count(self) -> int:
        """Sessions not yet freed."""

    def seen(
        self, first: int, count: int, /
    ) -> tuple[
        list[tuple[int, int, int, int, int, dict[str, int], int, int, list[int]]], int | None
    ]:
        """Look at up to `count` live sessions, from place `first` of the table on.

        Returns:
            A row a session: number, events, bytes, settled tickets, duplicates, rejected by reason,
            tickets in flight, bytes in its ring, and the buckets (powers of two, without the empty
            ones at the end) of the nanoseconds from the reading of an event to its verdict. Then
            the place of the next session; `None`: there is no other.
        """

    def run(
        self, timeout_ms: int, /
    ) -> list[tuple[str, int] | tuple[str, int, str] | tuple[str, int, int, int, bytes, int]]:
        """Serve all rings, without the GIL, until Python is wanted; at most `timeout_ms`.

        Returns:
            In order: `("readable", fd)`;
            `("welcomed", slot, birth_seq, high, log_uuid, producer_no)`: live for the first time;
            `("refused", slot, reason)`: never live, freed; `("ended", slot, reason)`: ended from
            this side, freed; `("closed", slot)`: `end_session` is done, freed. Empty: time is over,
            or a signal came.
        """

class LogFailedError(Exception):
    """A write or sync of the log failed: the process must end, a restart is the only retry."""

class LogReadOnlyError(LogFailedError):
    """The log's file system is read-only: as any failure, a restart is the only retry."""

class LogBlockedError(Exception):
    """Only a human can move what is in the way of a start; names the file. Nothing was changed."""

class LogMissingError(Exception):
    """The log that was served is not in its directory; none was begun in its place."""

class LogNoRoomError(Exception):
    """A start finds no room for its segment; nothing was published, trying again is safe."""

class LogOptions(TypedDict):
    """The numbers of `[log]` and `[dedup]`, and what the follower's position file says."""

    segment_bytes: int
    group_bytes_max: int
    group_records_max: int
    linger_us: int
    bytes_max: int
    disk_reserve_bytes: int
    retain_bytes: int
    recycle: bool
    dedup_keys: int
    dedup_producers: int
    follower_group: int
    follower_seq: int
    follower_root: bytes
    log_name: bytes
    """What a fork has called the log, 16 bytes; empty: it has the name in its segments."""
    log_served: bytes
    """Name in the segments of the log that was served before, 16 bytes; empty: not known."""

class Recovery(TypedDict):
    """What a start found; `label` is the row of the decision table, or `new`."""

    label: str
    segments: int
    groups_read: int
    last_group: int
    next_seq: int
    epoch: int
    log_uuid: bytes
    log_name: bytes
    """What the log is called: the same, or what a fork has called it."""
    gaps: list[tuple[int, int, str]]
    """What this start found to be gone and has recorded: first and last number, reason."""
    older: list[tuple[int, str]]
    """Segment and row of the decision table, of whatever is not just sealed."""
    aside: list[tuple[int, str, str]]
    """Segment, row and new name of files that were not this log's."""
    uncopied: list[tuple[str, str]]
    """Path and cause of copies for the quarantine that could not be made."""

class LogWriter:
    """The log writer's kernel; holds `log/LOCK` until the process ends."""

    def __init__(
        self,
        log_dir: str | PathLike[str],
        quarantine_dir: str | PathLike[str],
        board_fd: int,
        log_key: bytes,
        options: LogOptions,
    ) -> None:
        """Recover the log and open a new segment.

        Raises:
            BlockingIOError: another process holds the lock; nothing was touched.
            LogNoRoomError: the disk has no room for a segment.
            LogBlockedError: a file of the log cannot be used before somebody mends it.
            LogMissingError: it is not the log of `log_served`.
            LogFailedError: the disk refuses.
        """

    def recovery(self) -> Recovery: ...
    def attach(
        self,
        worker: int,
        pair_fd: int,
        forward_bytes: int,
        return_bytes: int,
        forward_bell_fd: int,
        return_bell_fd: int,
    ) -> None:
        """Map a pair; the descriptors are lent for the call."""

    def detach(self, worker: int) -> None:
        """Drop a dead worker's pair with all that it held."""

    def prepare(self, wishes: dict[str, bool], /) -> None:
        """Prepare group buffers, dedup window and each pair to come, as `[memory]` (keys) says."""

    def prepared(self) -> list[tuple[str, str, int, int, int]]:
        """Kind of memory, key, bytes asked for, bytes that have it, errno; since the last call."""

    def follower_bell(self, fd: int) -> None: ...
    def watch(self, fd: int) -> None:
        """Let `run` return when `fd` is readable."""

    def run(self, timeout_ms: int) -> list[int]:
        """Commit groups for at most `timeout_ms`, without the GIL; watched fds that are readable.

        Raises:
            LogFailedError: a write or sync failed; nothing of its group was published.
        """

    def durable_seq(self) -> int: ...
    def seal(self) -> None:
        """Commit what the rings hold and write what sealed segments still need."""
