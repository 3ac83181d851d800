"""`certeus tail`: events as NDJSON, by CloudEvents names, straight from the log.

Offline it reads what the segments hold; with a daemon, only what is durable. Each line has `data`
as it was given (JSON inline, exactly its bytes), or `data_base64` for opaque bytes.
"""

import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import click

from certeusd.cli.common import SEQ_MAX, client_of, json_option, log_directory, reading, wants_json
from certeusd.cli.output import write_json
from certeusd.cli.parameters import examples
from certeusd.exits import ExitError

if TYPE_CHECKING:
    from certeusd.log.reader import Filter, Rendered
    from certeusd.log.tailing import Tailing

FOLLOW_POLL_S = 0.1
LOOK_BACK_MIN = 1024
"""Numbers looked at for the last events; where they are too few, eight times as many."""

Gap = tuple[int, int, str]


class Last:
    """The last events of what is read, in no more memory than they need."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._parts: deque[Rendered] = deque()
        self.events = 0
        self.gaps: list[Gap] = []

    def take(self, told: "Rendered") -> None:
        """Take one part; parts that are not needed any more go."""
        self.gaps += told.gaps
        if told.events:
            self._parts.append(told)
            self.events += told.events
        while self._parts and self.events - self._parts[0].events >= self._count:
            self.events -= self._parts.popleft().events

    def lines(self) -> list[bytes]:
        """Return the lines, with their ends."""
        parts = b"".join(part.bytes for part in self._parts)
        return parts.splitlines(keepends=True)[-self._count :] if self._count else []


class Tail:
    """The log of a directory, as the options of the verb want it."""

    def __init__(self, directory: Path, wanted: "Filter", *, versioned: bool) -> None:
        self._directory = directory
        self._wanted = wanted
        self._versioned = versioned

    def behind(self, after_seq: int) -> "Tailing":
        """Return what reads behind a number."""
        from certeusd.log.tailing import Tailing

        return Tailing(
            self._directory, self._wanted, after_seq, versioned=self._versioned, gaps=False
        )

    def end(self) -> int:
        """Return the last number that the log on disk holds, out of its last segment."""
        from certeusd.log.reader import log_begins

        begins = log_begins(self._directory)
        tailing = self.behind(begins[-1][3] - 1 if begins else 0)
        while tailing.read(SEQ_MAX):
            pass
        return tailing.after_seq

    def last(self, count: int, durable_seq: int) -> Last:
        """Find the last events, looking further back until there are enough."""
        from certeusd.log.reader import LogReader

        oldest = LogReader(self._directory).oldest()
        begin = oldest["before_next_seq"] if oldest else 1
        span = max(LOOK_BACK_MIN, count)
        while True:
            # A start may have copied a group from before its segment's first number: from 0, then.
            after = durable_seq - span if durable_seq - span >= begin else 0
            found = Last(count)
            tailing = self.behind(after)
            while told := tailing.read(durable_seq):
                found.take(told)
            if found.events >= count or after == 0:
                return found
            span *= 8


def _tell(gaps: list[Gap]) -> None:
    for first, last, reason in gaps:
        click.echo(f"certeus: gap {first}..{last} ({reason})", err=True)


def _print(tailing: "Tailing", durable_seq: int) -> None:
    while told := tailing.read(durable_seq):
        _tell(told.gaps)
        write_json(told.bytes)


@click.command(epilog=examples("certeus tail -n 100 | jq .data", "certeus tail -f",
                               "certeus tail -f --type 'payment.*' --after-seq 1500"))  # fmt: skip
@click.option("-n", "count", metavar="N", type=click.IntRange(0), default=None,
              help="How many of the last events.  [default: 10]")  # fmt: skip
@click.option("-f", "--follow", is_flag=True, help="Go on as events become durable.")
@click.option("--after-seq", metavar="SEQ", type=click.IntRange(0, SEQ_MAX),
              help="All events behind this number, instead of the last ones.")  # fmt: skip
@click.option("--type", "event_type", metavar="TYPE",
              help="Only events of this type; with * at its end: that begins so.")  # fmt: skip
@click.option("--source", metavar="SOURCE",
              help="Only events of this source; with * at its end: that begins so.")  # fmt: skip
@json_option
@click.pass_context
def command(
    context: click.Context,
    count: int | None,
    follow: bool,
    after_seq: int | None,
    event_type: str | None,
    source: str | None,
) -> None:
    """Print the last events of the log, one JSON object a line.

    With a daemon these are the durable ones, without one what the log on disk holds. Numbers that
    the log does not hold are told on stderr. `--json` adds schema_version to each.
    """
    from certeusd.log.reader import Filter

    if count is not None and after_seq is not None:
        raise click.UsageError("-n and --after-seq exclude each other: give one of them")
    directory = log_directory(context)
    client = client_of(context)
    tail = Tail(directory, Filter(type=event_type, source=source), versioned=wants_json(context))

    def durable_seq() -> int:
        found = client.get("/v1/status")["durable_seq"]
        assert isinstance(found, int), "durable_seq is a number"
        return found

    with reading(directory):
        try:
            durable = durable_seq()
        except ExitError:
            if follow:
                raise
            durable = tail.end()
        if after_seq is None:
            found = tail.last(10 if count is None else count, durable)
            # The last ones were asked for, not those that are long delivered.
            _tell([gap for gap in found.gaps if gap[2] != "trimmed"])
            write_json(b"".join(found.lines()))
        tailing = tail.behind(durable if after_seq is None else after_seq)
        _print(tailing, durable)
        while follow:
            time.sleep(FOLLOW_POLL_S)
            _print(tailing, durable_seq())
