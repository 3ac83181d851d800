"""`certeus append`: lines of a file or of standard input become events, in order.

What can be read at once is appended at once, so that a pipe is followed without delay and a file
goes in bulk. A line that is refused, here or by the daemon, is told with its number and the rest
goes on; at the end everything is durable or the exit code says otherwise.
"""

import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Self, cast

import click

from certeusd.cli.appending import (
    Appender,
    Complaints,
    Cut,
    Cutter,
    Refused,
    Row,
    default_source,
    ingest_socket,
    not_connected,
    object_of,
    print_summary,
    text_of,
)
from certeusd.cli.common import json_option
from certeusd.cli.parameters import examples
from certeusd.exits import Exit, ExitError

if TYPE_CHECKING:
    from rich.progress import Progress

READ_BYTES = 256 * 1024


class Lines:
    """Makes rows of lines, as the options say."""

    def __init__(self, text: bool, id_field: str | None, subject_field: str | None) -> None:
        self._text = text
        self._id_field = id_field
        self._subject_field = subject_field

    def row(self, line: bytes, place: int = 0) -> Row:
        """Return what the library takes: the line's own bytes, with id and subject if asked for."""
        if self._text:
            return text_of(line)
        line = object_of(line)
        if self._id_field is None and self._subject_field is None:
            return line
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


def chunks(file: int) -> Iterator[tuple[Cut, int]]:
    """Yield whole lines as they can be read, and how many bytes were read for them."""
    cutter = Cutter()
    while block := os.read(file, READ_BYTES):
        yield cutter.feed(block), len(block)
    yield cutter.finish(), 0


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
        with certeus.connect(ingest_socket(context), source=source or default_source()) as producer:
            meter = _Meter(descriptor)
            complaints = Complaints(meter.tell)
            appender = Appender(producer, type, lines, complaints, name=lambda at: f"line {at}")
            with meter:
                line = 1
                for cut, read_bytes in chunks(descriptor):
                    appender.append(cut.lines, range(line, line + len(cut.lines)))
                    line += len(cut.lines)
                    meter.advance(read_bytes)
                appender.settle()
            summary = appender.summary(started)
    except certeus.ConnectError as error:
        raise not_connected(error) from error
    except certeus.Error as error:
        raise ExitError(Exit.FAILED, str(error)) from error
    print_summary(context, summary)
    if appender.rejected:
        context.exit(Exit.FAILED)


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

    def advance(self, read_bytes: int) -> None:
        """Count what was appended."""
        if self._progress is not None:
            self._progress.advance(self._task, read_bytes)

    def tell(self, message: str) -> None:
        """Print one line to stderr, above the bar."""
        if self._progress is not None:
            self._progress.console.print(message, markup=False, highlight=False)
        else:
            click.echo(message, err=True)
