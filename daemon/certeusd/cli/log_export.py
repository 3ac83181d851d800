"""`certeus log export`: a range of events as lines, in bounded memory, every gap told.

What is printed is exactly what the log holds: one line an event, as `certeus tail` prints it. A
number of the range that is not there is never passed over in silence: it is told, and the exit code
is 1 at the end.
"""

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from certeusd.cli.common import (
    client_of,
    json_option,
    log_directory,
    paths_of,
    print_json,
    reading,
    seq_range,
    wants_json,
)
from certeusd.cli.log_places import Missing, reader_near
from certeusd.exits import Exit, ExitError
from certeusd.human import human_count


class Export:
    """What went out, and what could not."""

    def __init__(self, first: int, last: int) -> None:
        self.next_seq = first
        self.last = last
        self.events = 0
        self.gaps: list[Missing] = []

    def gap(self, first: int, last: int, reason: str) -> None:
        """Note the part of a gap that lies in the range."""
        first, last = max(first, self.next_seq), min(last, self.last)
        if first <= last:
            self.gaps.append(Missing(first, last, reason))
            self.next_seq = last + 1

    def run(self, directory: Path, durable: int, begin: int, out: BinaryIO) -> None:
        """Write every durable event of the range; what the log does not hold becomes a gap."""
        from certeusd.log.reader import Filter
        from certeusd.log.tailing import Tailing

        self.gap(1, begin - 1, "trimmed")
        end = min(self.last, durable)
        tailing = Tailing(directory, Filter(), self.next_seq - 1, gaps=False)
        # A group may hold numbers beyond the range: it is read whole, and told up to the end.
        while told := tailing.read(durable, until_seq=end):
            out.write(told.bytes)
            self.events += told.events
            for gap in told.gaps:
                self.gap(*gap)
            self.next_seq = max(self.next_seq, told.last_seq + 1)
        self.gap(self.next_seq, end, "damaged")

    def told(self) -> dict[str, object]:
        """Return what `--json` prints at the end."""
        return {"events": self.events, "gaps": [gap.described() for gap in self.gaps]}


@contextmanager
def _destination(output: Path | None, state_dir: Path) -> Generator[BinaryIO]:
    if output is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if output.resolve().is_relative_to(state_dir.resolve()):
        raise click.UsageError(f"{output} lies in the state directory: choose another place")
    try:
        with output.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ExitError(
            Exit.FAILED, f"cannot write {output}: {error.strerror}; choose another place"
        ) from error


def _durable(context: click.Context, directory: Path) -> tuple[int, int]:
    """Return the oldest number that is held, and the last durable one; a daemon knows it best."""
    _, begin, last = reader_near(directory, 1)
    try:
        found = client_of(context).get("/v1/status")["durable_seq"]
    except ExitError:
        return begin, last
    assert isinstance(found, int), "durable_seq is a number"
    return begin, found


@click.command(short_help="Write events as lines; a gap inside is told and exits 1.")
@click.argument("which", metavar="[FIRST..LAST]", required=False,
                help="Numbers of events; none: all.")  # fmt: skip
@click.option("--format", "form", type=click.Choice(["ndjson"]), default="ndjson",
              show_default=True, help="Form of the events.")  # fmt: skip
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
              help="Write there, synced, instead of to stdout.")  # fmt: skip
@json_option
@click.pass_context
def command(context: click.Context, which: str | None, form: str, output: Path | None) -> None:
    """Write events as lines, oldest first, all or those of a range.

    Without a range: everything that the log holds now. A number of the range that is not there
    (trimmed, damaged, not yet) is told on stderr, and the exit code is 1. With --json, which needs
    --output, a summary is printed at the end.
    """
    assert form == "ndjson", "the only one"
    if wants_json(context) and output is None:
        raise click.UsageError("--json prints a summary on stdout: give --output for the events")
    directory = log_directory(context)
    with reading(directory):
        begin, durable = _durable(context, directory)
    first, last = seq_range(which) if which else (begin, durable)
    export = Export(first, last)
    with _destination(output, paths_of(context).state_dir) as out, reading(directory):
        export.run(directory, durable, begin, out)
    if last > durable:
        export.gap(durable + 1, last, "not-yet")
    if wants_json(context):
        print_json(export.told())
    else:
        _tell(export)
    if export.gaps:
        context.exit(Exit.FAILED)


def _tell(export: Export) -> None:
    for gap in export.gaps:
        what = gap.described()["what"]
        click.echo(f"certeus: seq {gap.first_seq}..{gap.last_seq} missing: {what}", err=True)
    if sys.stderr.isatty():
        click.echo(f"certeus: {human_count(export.events)} events", err=True)
