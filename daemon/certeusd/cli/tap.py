"""`certeus tap`: what becomes durable now, through the api: for who may not read the log's files.

`certeus tail` reads the log itself; this asks `api.sock`, as any program may that the section
`[api]` names. It survives restarts of the daemon: the api is told where to go on.
"""

import os
import select
import shutil
import sys
import threading
import time
from typing import TYPE_CHECKING

import click

from certeusd.cli.common import SEQ_MAX, json_option, paths_of, wants_json
from certeusd.cli.parameters import ANY_FILE, examples, is_text
from certeusd.exits import Exit

if TYPE_CHECKING:
    from certeusd.cli.event_stream import EventStream
    from certeusd.cli.tap_lines import Lines, Rates

SOCKET = "api.sock"
RATE_S = 1.0


@click.command(epilog=examples("certeus tap", "certeus tap --type 'payment.*' --json | jq .data",
                               "certeus tap --rate"))  # fmt: skip
@click.option("--type", "event_type", metavar="TYPE",
              help="Only events of this type; with * at its end: that begins so.")  # fmt: skip
@click.option("--source", metavar="SOURCE",
              help="Only events of this source; with * at its end: that begins so.")  # fmt: skip
@click.option("--after-seq", metavar="SEQ", type=click.IntRange(0, SEQ_MAX),
              help="Begin behind this number.  [default: with what becomes durable now]",
              )  # fmt: skip
@click.option("-n", "--limit", metavar="N", type=click.IntRange(1),
              help="End after so many events; with --rate after so many lines.")  # fmt: skip
@click.option("--rate", is_flag=True,
              help="One line a second: events and bytes a second, by type.")  # fmt: skip
@click.option("--once", is_flag=True, help="End, with 69, when the api ends the stream.")
@click.option("--socket", metavar="PATH", type=ANY_FILE,
              help="The api's socket.  [default: api.sock of --runtime-dir]")  # fmt: skip
@json_option
@click.pass_context
def command(
    context: click.Context,
    event_type: str | None,
    source: str | None,
    after_seq: int | None,
    limit: int | None,
    rate: bool,
    once: bool,
    socket: str | None,
) -> None:
    """Print events as they become durable, one a line, until it is ended.

    It asks the api, so a user that [api] lets read needs no access to the log. A restart of the
    daemon is waited for; nothing is missed or told twice. Numbers that the log does not hold are
    told on stderr. `--json` prints whole events, or rates, as NDJSON.
    """
    from pathlib import Path

    from certeusd.cli.event_stream import EventStream
    from certeusd.cli.tap_lines import Lines, Rates

    path = Path(socket) if socket else paths_of(context).runtime_dir / SOCKET
    asked = {"type": event_type, "source": source,
             "after_seq": None if after_seq is None else str(after_seq),
             "limit": None if rate or limit is None else str(limit)}  # fmt: skip
    query = {name: value for name, value in asked.items() if value is not None}
    if not all(map(is_text, query.values())):
        raise click.UsageError("--type and --source are UTF-8")
    stream = EventStream(path, query, _tell, forever=not once)
    _end_with_the_reader()
    if rate:
        _rates(stream, Rates(wants_json(context)), limit)
    else:
        _events(stream, Lines(wants_json(context), _width()), limit)


def _tell(text: str) -> None:
    click.echo(f"certeus: {text}", err=True)


def _width() -> int | None:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _end_with_the_reader() -> None:
    """End when nobody reads the output any more, also while nothing comes to be printed."""

    def watch() -> None:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)  # Errors are told unasked.
        poll.poll()
        os._exit(Exit.FAILED)

    threading.Thread(target=watch, daemon=True).start()


def _events(stream: "EventStream", lines: "Lines", limit: int | None) -> None:
    left = limit
    for block in stream.blocks(lambda: None):
        if block is None:
            continue
        if block.kind:
            _tell(lines.gap(block.data))
            continue
        sys.stdout.buffer.write(lines.line(block.data))
        sys.stdout.buffer.flush()
        if left is not None:
            left -= 1
            if not left:
                return


class _Clock:
    """When the next line is due."""

    def __init__(self) -> None:
        self._since = time.monotonic()

    def left_s(self) -> float:
        return max(0.0, self._since + RATE_S - time.monotonic())

    def taken_s(self) -> float:
        """Return the seconds of this line, and begin the next one."""
        since, self._since = self._since, time.monotonic()
        return self._since - since


def _rates(stream: "EventStream", rates: "Rates", limit: int | None) -> None:
    left, clock = limit, _Clock()
    for block in stream.blocks(clock.left_s):
        if block is not None and not block.kind:
            rates.add(block.data)
        if clock.left_s() > 0:
            continue
        click.echo(rates.taken(clock.taken_s()))
        sys.stdout.flush()
        if left is not None:
            left -= 1
            if not left:
                return
