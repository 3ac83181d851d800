"""`certeus append`: lines of a file or of standard input become events, in order.

What can be read at once is appended at once, so that a pipe is followed without delay and a file
goes in bulk. A line that is refused, here or by the daemon, is told with its number and the rest
goes on; at the end everything is durable or the exit code says otherwise.
"""

import bisect
import os
import pwd
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Self, cast

import click

from certeusd.cli.common import json_option, paths_of, print_json, wants_json
from certeusd.cli.parameters import examples
from certeusd.exits import Exit, ExitError
from certeusd.human import human_count

if TYPE_CHECKING:
    from rich.progress import Progress

    from certeus import ConnectError, Event, Producer

READ_BYTES = 256 * 1024
TOLD_MAX = 20
RECEIPTS_LOOKED_AT_MAX = 65_536
RATED_LINES_MIN = 1000  # Of fewer the rate would only tell how long a process takes to start.
_COUNTS = ("appended", "escalated", "duplicates", "rejected")
_EXITS = {
    "unreachable": Exit.UNREACHABLE,
    "uid-not-allowed": Exit.NOT_ALLOWED,
    "source-not-allowed": Exit.NOT_ALLOWED,
}


class LineNumbers:
    """Which line a ticket is: tickets are dense, lines that got none leave a step."""

    def __init__(self) -> None:
        self._tickets: list[int] = []
        self._offsets: list[int] = []

    def note(self, ticket: int, line: int) -> None:
        """Line `line` got `ticket`."""
        if not self._offsets or self._offsets[-1] != line - ticket:
            self._tickets.append(ticket)
            self._offsets.append(line - ticket)

    def line(self, ticket: int) -> int:
        """Return the line of a ticket."""
        return ticket + self._offsets[bisect.bisect_right(self._tickets, ticket) - 1]


class Refused(Exception):
    """A line that cannot be an event; the argument is a stable word."""


class Lines:
    """Makes rows of lines, as the options say."""

    def __init__(self, text: bool, id_field: str | None, subject_field: str | None) -> None:
        self._text = text
        self._id_field = id_field
        self._subject_field = subject_field

    def row(self, line: bytes) -> "bytes | str | Event":
        """Return what the library takes: the line's own bytes, with id and subject if asked for."""
        if self._text:
            try:
                return line.decode()
            except UnicodeDecodeError as error:
                raise Refused("invalid-utf8") from error
        if not line.lstrip().startswith(b"{"):
            raise Refused("not-an-object")
        if self._id_field is None and self._subject_field is None:
            return line  # The daemon checks it.
        import msgspec

        from certeus import Event

        try:
            fields = cast(dict[str, object], msgspec.json.decode(line))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refused("invalid-json") from error
        return Event(
            data=line,
            id=_field(fields, self._id_field),
            subject=_field(fields, self._subject_field),
        )

    def is_blank(self, line: bytes) -> bool:
        """Whether a line is nothing at all: between objects, never in text."""
        return not self._text and not line.strip()


def _field(fields: dict[str, object], name: str | None) -> str | None:
    if name is None:
        return None
    value = fields.get(name)
    if value is None:
        raise Refused(f"no-field-{name}")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Refused(f"field-{name}-is-no-text")
    return str(value)


def chunks(file: int) -> Iterator[list[bytes]]:
    """Yield whole lines (without their ends) as they can be read."""
    rest = b""
    while block := os.read(file, READ_BYTES):
        lines = (rest + block).split(b"\n")
        rest = lines.pop()
        yield [line.removesuffix(b"\r") for line in lines]
    if rest:
        yield [rest.removesuffix(b"\r")]


class Appender:
    """Appends chunks of lines, and tells what was refused."""

    def __init__(
        self, producer: "Producer", type: str, lines: Lines, tell: Callable[[str], None]
    ) -> None:
        self._producer = producer
        self._type = type
        self._lines = lines
        self._tell = tell
        self._numbers = LineNumbers()
        self._line = 0
        self._last_ticket = 0
        self.refused_here = 0
        self.rejected = 0

    def append(self, chunk: list[bytes]) -> None:
        """Append lines in order; back-pressure makes this wait."""
        rows: list[bytes | str | Event] = []
        numbers: list[int] = []
        for line in chunk:
            self._line += 1
            if self._lines.is_blank(line):
                continue
            try:
                rows.append(self._lines.row(line))
                numbers.append(self._line)
            except Refused as refusal:
                self._refuse(self._line, str(refusal))
        self._append_rows(rows, numbers)
        self._tell_rejections(self._producer.statistics().settled)

    def _append_rows(self, rows: "list[bytes | str | Event]", numbers: list[int]) -> None:
        at = 0
        while at < len(rows):
            failure: Exception | None = None
            try:
                last = self._producer.append_many(self._type, rows[at:])
            except (ValueError, TypeError) as error:
                # The library's own: this row cannot be sent; those before it were.
                failure = error
                last = cast(int, getattr(error, "last_ticket", self._last_ticket))
            for ticket in range(self._last_ticket + 1, last + 1):
                self._numbers.note(ticket, numbers[at])
                at += 1
            self._last_ticket = last
            if failure is not None:
                self._refuse(numbers[at], str(failure))
                at += 1

    def _refuse(self, line: int, reason: str) -> None:
        self.refused_here += 1
        self._told(line, reason)

    def _told(self, line: int, reason: str) -> None:
        self.rejected += 1
        if self.rejected <= TOLD_MAX:
            self._tell(f"line {line}: {reason}")

    def _tell_rejections(self, ticket: int) -> None:
        from certeus import RejectedError

        while True:
            try:
                self._producer.wait_durable(ticket)
            except RejectedError as error:
                for one in error.rejections:
                    conflict = f" with seq {one.seq}" if one.seq else ""
                    self._told(self._numbers.line(one.ticket), one.reason + conflict)
                self.rejected += error.count - len(error.rejections)
            else:
                return

    def finish(self) -> int | None:
        """Wait until all is durable; return the last seq of ours, if it is known."""
        self._tell_rejections(self._last_ticket)
        if self.rejected > TOLD_MAX:
            self._tell(f"and {human_count(self.rejected - TOLD_MAX)} more")
        oldest = max(0, self._last_ticket - RECEIPTS_LOOKED_AT_MAX)
        for ticket in range(self._last_ticket, oldest, -1):
            try:
                receipt = self._producer.receipt(ticket)
            except LookupError:
                return None
            if receipt.verdict in ("accepted", "escalated"):
                return receipt.seq
        return None


def _source() -> str:
    try:
        return f"cli/{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"cli/{os.getuid()}"


@click.command(
    epilog=examples(
        "certeus append --type order --id-field order_id orders.ndjson",
        "journalctl -f -o cat | certeus append --text --source journal",
    )
)
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True), default="-",
                help="Lines, one event each; - or none: standard input.")  # fmt: skip
@click.option(
    "--text", is_flag=True, help="Lines of text, kept as JSON strings, instead of objects."
)
@click.option("--type", "type", default="line", show_default=True, help="CloudEvents type.")
@click.option("--source", default=None, help="CloudEvents source.  [default: cli/<user>]")
@click.option("--id-field", metavar="FIELD", help="Field of the object that is the event's id.")
@click.option("--subject-field", metavar="FIELD",
              help="Field of the object that is the event's subject.")  # fmt: skip
@json_option
@click.pass_context
def command(
    context: click.Context,
    file: str,
    text: bool,
    type: str,
    source: str | None,
    id_field: str | None,
    subject_field: str | None,
) -> None:
    """Append the lines of FILE and wait until they are durable.

    Each line is one event, a JSON object whose own bytes are kept. One that is refused is told with
    its number, and the rest goes on; then the exit code is 1. An id that was there before makes a
    duplicate, which is no failure.
    """
    if text and (id_field or subject_field):
        raise click.UsageError("--text has no fields: leave out --id-field and --subject-field")
    import certeus

    lines = Lines(text, id_field, subject_field)
    started = time.monotonic()
    try:
        descriptor = 0 if file == "-" else os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ExitError(Exit.FAILED, f"cannot read {file}: {error.strerror}") from error
    try:
        with certeus.connect(_socket(context), source=source or _source()) as producer:
            meter = _Meter(descriptor)
            appender = Appender(producer, type, lines, meter.tell)
            with meter:
                for chunk in chunks(descriptor):
                    appender.append(chunk)
                    meter.advance(chunk)
                last_seq = appender.finish()
            statistics = producer.statistics()
    except certeus.ConnectError as error:
        raise _not_connected(error) from error
    except certeus.Error as error:
        raise ExitError(Exit.FAILED, str(error)) from error
    summary: dict[str, object] = {
        "appended": statistics.accepted,
        "escalated": statistics.escalated,
        "duplicates": statistics.duplicates,
        "rejected": statistics.rejected + appender.refused_here,
        "last_seq": last_seq,
        "seconds": round(time.monotonic() - started, 6),
    }
    _summarise(context, summary)
    if appender.rejected:
        context.exit(Exit.FAILED)


def _socket(context: click.Context) -> str | None:
    """Return the ingest socket: where the other verbs look, unless CERTEUS_SOCKET names one."""
    _, runtime_dir = cast(tuple[str | None, str | None], context.obj)
    if runtime_dir is None and os.environ.get("CERTEUS_SOCKET"):
        return None
    return str(paths_of(context).ingest_socket)


def _not_connected(error: "ConnectError") -> ExitError:
    """Say it with the next step of this command, not with the library's."""
    message = str(error)
    if error.reason == "unreachable":
        cause, _, _ = message.partition("; ")
        message = f"{cause}; is certeusd running, and with this --runtime-dir?"
    return ExitError(_EXITS.get(error.reason, Exit.TRY_AGAIN), message)


def _summarise(context: click.Context, summary: dict[str, object]) -> None:
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
    click.echo(f"{', '.join(parts)} in {seconds:.2f} s{rate}, durable")


class _Meter:
    """A progress bar on a terminal, by bytes of the file; elsewhere nothing."""

    def __init__(self, descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        self._progress: Progress | None = None
        if sys.stderr.isatty() and size > 0:
            from rich import progress as bars
            from rich.console import Console

            self._progress = bars.Progress(
                "appending",
                bars.BarColumn(),
                bars.DownloadColumn(),
                bars.TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )  # fmt: skip
            self._task = self._progress.add_task("append", total=size)

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def advance(self, chunk: list[bytes]) -> None:
        """Count what was appended."""
        if self._progress is not None:
            self._progress.advance(self._task, sum(len(line) + 1 for line in chunk))

    def tell(self, message: str) -> None:
        """Print one line to stderr, above the bar."""
        if self._progress is not None:
            self._progress.console.print(message, markup=False, highlight=False)
        else:
            click.echo(message, err=True)
