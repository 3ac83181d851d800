"""What `append` and `pipe` share: lines become events, in order, and what is refused is told.

A line has a *place* (its number, or its byte in a file), by which it is told; tickets are dense, so
the places of those without a verdict are one list, which is as long as the ring has events.
"""

import math
import os
import pwd
import time
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeAlias, TypeVar, cast

import click

from certeusd.cli.common import paths_of, print_json, wants_json
from certeusd.exits import Exit, ExitError
from certeusd.human import human_count

if TYPE_CHECKING:
    from certeus import ConnectError, Event, Producer

LINE_BYTES_MAX = 512 * 1024
"""No longer line can be an event: one takes at most an eighth of the ring, which has 4 MiB."""
TOLD_MAX = 20
RECEIPTS_LOOKED_AT_MAX = 65_536
RATED_LINES_MIN = 1000  # Of fewer the rate would only tell how long a process takes to start.
WAIT_SLICE_S = 0.1
_COUNTS = ("appended", "escalated", "duplicates", "rejected")
_EXITS = {
    "unreachable": Exit.UNREACHABLE,
    "uid-not-allowed": Exit.NOT_ALLOWED,
    "source-not-allowed": Exit.NOT_ALLOWED,
}

Row: TypeAlias = "bytes | str | Event"
Place = TypeVar("Place")
Place_contra = TypeVar("Place_contra", contravariant=True)


class Refused(Exception):
    """A line that cannot be an event; the argument is a stable word."""


class Cut(NamedTuple):
    """Whole lines without their ends, None for one that is too long, and where each begins."""

    lines: list[bytes | None]
    starts: list[int]


class Cutter:
    """Cuts blocks into lines; of one that is too long nothing is held but its length."""

    def __init__(self, start: int = 0, line_bytes_max: int = LINE_BYTES_MAX) -> None:
        self.start = start
        """Of the line that is not whole yet."""
        self._line_bytes_max = line_bytes_max
        self._rest = bytearray()
        self._rest_bytes = 0

    def feed(self, block: bytes) -> Cut:
        """Take the next bytes; return the lines that are whole now."""
        first, *others = block.split(b"\n")
        if not others:
            self._keep(first)
            return Cut([], [])
        rest = others.pop()
        self._keep(first)
        lines = [self._held(), *map(self._checked, others)]
        ends = accumulate(map(len, others), lambda at, size: at + size + 1, initial=self._end() + 1)
        starts = [self.start, *ends]
        self.start = starts.pop()
        self._rest, self._rest_bytes = bytearray(), 0
        self._keep(rest)
        return Cut(lines, starts)

    def finish(self) -> Cut:
        """Return the last line, if it has no end."""
        if not self._rest_bytes:
            return Cut([], [])
        cut = Cut([self._held()], [self.start])
        self.start = self._end()
        self._rest, self._rest_bytes = bytearray(), 0
        return cut

    def _end(self) -> int:
        return self.start + self._rest_bytes

    def _keep(self, part: bytes) -> None:
        self._rest_bytes += len(part)
        if self._rest_bytes > self._line_bytes_max:
            self._rest = bytearray()
        else:
            self._rest += part

    def _held(self) -> bytes | None:
        if self._rest_bytes > self._line_bytes_max:
            return None
        return bytes(self._rest).removesuffix(b"\r")

    def _checked(self, line: bytes) -> bytes | None:
        return line.removesuffix(b"\r") if len(line) <= self._line_bytes_max else None


class Rows(Protocol[Place_contra]):
    """Makes what the library takes of lines."""

    def row(self, line: bytes, place: Place_contra) -> Row:
        """Return the event of a line, or raise Refused."""
        ...

    def is_blank(self, line: bytes) -> bool:
        """Whether a line is nothing at all."""
        ...


def text_of(line: bytes) -> str:
    """Return a line of text, or raise Refused."""
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise Refused("invalid-utf8") from error


def object_of(line: bytes) -> bytes:
    """Return the line's own bytes, which the daemon checks, or raise Refused."""
    if not line.lstrip().startswith(b"{"):
        raise Refused("not-an-object")
    return line


class Complaints:
    """Says what was refused: the first 20, then how many more; after `again_s` it begins anew."""

    def __init__(
        self,
        tell: Callable[[str], None],
        again_s: float = math.inf,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tell = tell
        self._again_s = again_s
        self._clock = clock
        self._since = clock()
        self._count = 0

    def say(self, text: str) -> None:
        """Tell one, or count it."""
        self.look()
        self._count += 1
        if self._count <= TOLD_MAX:
            self._tell(text)

    def count(self, more: int) -> None:
        """Count what has no text."""
        self._count += more

    def look(self) -> None:
        """Begin anew if it is time."""
        if self._clock() - self._since >= self._again_s:
            self.finish()

    def finish(self) -> None:
        """Tell how many were only counted."""
        if self._count > TOLD_MAX:
            self._tell(f"and {human_count(self._count - TOLD_MAX)} more")
        self._count = 0
        self._since = self._clock()


class Appender(Generic[Place]):
    """Appends chunks of lines, and tells what was refused."""

    def __init__(
        self,
        producer: "Producer",
        type: str,
        rows: Rows[Place],
        complaints: Complaints,
        *,
        name: Callable[[Place], str],
        waited: Callable[[], None] = lambda: None,
    ) -> None:
        """Make one; `name` says a place, `waited` is called all the time while the ring is full."""
        self._producer = producer
        self._type = type
        self._rows = rows
        self._complaints = complaints
        self._name = name
        self._waited = waited
        self._places: list[Place] = []  # of the tickets above `_told_ticket`
        self._told_ticket = 0
        self.last_ticket = 0
        self.refused_here = 0
        self.rejected = 0

    def append(self, lines: Sequence[bytes | None], places: Sequence[Place]) -> None:
        """Append lines in order; back-pressure makes this wait."""
        rows: list[Row] = []
        kept: list[Place] = []
        for line, place in zip(lines, places, strict=True):
            if line is not None and self._rows.is_blank(line):
                continue
            try:
                if line is None:
                    raise Refused("line-too-long")
                rows.append(self._rows.row(line, place))
                kept.append(place)
            except Refused as refusal:
                self._refuse(place, str(refusal))
        self._append_rows(rows, kept)
        self.take_verdicts()

    def _append_rows(self, rows: list[Row], places: list[Place]) -> None:
        from certeus import RingFullError

        at = 0
        while at < len(rows):
            failure: Exception | None = None
            try:
                last = self._producer.append_many(
                    self._type, rows[at:] if at else rows, timeout=WAIT_SLICE_S
                )
            except RingFullError as error:
                at += self._note(places, at, error.last_ticket)
                self._waited()
                continue
            except (ValueError, TypeError) as error:
                # The library's own: this row cannot be sent; those before it were.
                failure = error
                last = cast(int, getattr(error, "last_ticket", self.last_ticket))
            at += self._note(places, at, last)
            if failure is not None:
                self._refuse(places[at], str(failure))
                at += 1

    def _note(self, places: list[Place], at: int, last: int) -> int:
        count = last - self.last_ticket
        self._places += places[at : at + count]
        self.last_ticket = last
        return count

    def _refuse(self, place: Place, reason: str) -> None:
        self.refused_here += 1
        self._told(place, reason)

    def _told(self, place: Place, reason: str) -> None:
        self.rejected += 1
        self._complaints.say(f"{self._name(place)}: {reason}")

    def take_verdicts(self) -> int:
        """Tell the rejections that are out; return the last ticket with a verdict."""
        settled = self._producer.statistics().settled
        self._hear(settled, None)
        del self._places[: settled - self._told_ticket]
        self._told_ticket = settled
        self._complaints.look()
        return settled

    def _hear(self, ticket: int, timeout: float | None) -> None:
        """Wait for the verdicts up to a ticket; tell the rejections, each once."""
        from certeus import RejectedError

        while True:
            try:
                self._producer.wait_durable(ticket, timeout)
            except RejectedError as error:
                for one in error.rejections:
                    conflict = f" with seq {one.seq}" if one.seq else ""
                    place = self._places[one.ticket - self._told_ticket - 1]
                    self._told(place, one.reason + conflict)
                more = error.count - len(error.rejections)
                self.rejected += more
                self._complaints.count(more)
            else:
                return

    def settle(self) -> None:
        """Wait until everything has a verdict."""
        while self.take_verdicts() < self.last_ticket:
            try:
                self._hear(self.last_ticket, WAIT_SLICE_S)
            except TimeoutError:
                self._waited()
        self._complaints.finish()

    def in_doubt(self) -> list[Place]:
        """Return the places of what was appended and has no verdict."""
        self.take_verdicts()
        return list(self._places)

    def last_seq(self) -> int | None:
        """Return the last seq of ours, if it is known."""
        oldest = max(0, self.last_ticket - RECEIPTS_LOOKED_AT_MAX)
        for ticket in range(self.last_ticket, oldest, -1):
            try:
                receipt = self._producer.receipt(ticket)
            except LookupError:
                return None
            if receipt.verdict in ("accepted", "escalated"):
                return receipt.seq
        return None

    def summary(self, started: float) -> dict[str, object]:
        """Return what became of the lines; `started` is a monotonic time."""
        statistics = self._producer.statistics()
        return {
            "appended": statistics.accepted,
            "escalated": statistics.escalated,
            "duplicates": statistics.duplicates,
            "rejected": statistics.rejected + self.refused_here,
            "last_seq": self.last_seq(),
            "seconds": round(time.monotonic() - started, 6),
        }


def default_source() -> str:
    """Return the source of whoever names none."""
    try:
        return f"cli/{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"cli/{os.getuid()}"


def ingest_socket(context: click.Context) -> str | None:
    """Return the ingest socket: where the other verbs look, unless CERTEUS_SOCKET names one."""
    _, runtime_dir = cast(tuple[str | None, str | None], context.obj)
    if runtime_dir is None and os.environ.get("CERTEUS_SOCKET"):
        return None
    return str(paths_of(context).ingest_socket)


def not_connected(error: "ConnectError") -> ExitError:
    """Say it with the next step of this command, not with the library's."""
    message = str(error)
    if error.reason == "unreachable":
        cause, _, _ = message.partition("; ")
        message = f"{cause}; is certeusd running, and with this --runtime-dir?"
    return ExitError(_EXITS.get(error.reason, Exit.TRY_AGAIN), message)


def print_summary(context: click.Context, summary: dict[str, object], end: str = "durable") -> None:
    """Print what became of the lines, for a human or as JSON."""
    if wants_json(context):
        print_json(summary)
        return
    parts = [f"{human_count(cast(int, summary['appended']))} appended"]
    parts += [
        f"{human_count(cast(int, summary[name]))} {name}" for name in _COUNTS[1:] if summary[name]
    ]
    seconds = cast(float, summary["seconds"])
    lines = sum(cast(int, summary[name]) for name in _COUNTS)
    rate = f" ({lines / seconds:,.0f} lines/s)" if seconds and lines >= RATED_LINES_MIN else ""
    click.echo(f"{', '.join(parts)} in {seconds:.2f} s{rate}, {end}")
