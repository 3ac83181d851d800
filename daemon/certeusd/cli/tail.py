"""`certeus tail`: events as NDJSON, by CloudEvents names, straight from the log.

Offline it reads what the segments hold; with a daemon, only what is durable. Each line has `data`
as it was given (JSON inline, exactly its bytes), or `data_base64` for opaque bytes.
"""

import base64
import json
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import click

from certeusd.cli.common import SCHEMA_VERSION, client_of, json_option, log_directory, wants_json
from certeusd.cli.parameters import examples
from certeusd.control.types import rfc3339
from certeusd.exits import Exit, ExitError

if TYPE_CHECKING:
    from certeusd.log.reader import LogReader

BATCH_ROWS_MAX = 4096
BATCH_BYTES_MAX = 4 * 1024 * 1024
FOLLOW_POLL_S = 0.1

_NAMES = ("source", "id", "type", "subject", "time", "dataschema", "datacontenttype", "tenant",
          "verdict")  # fmt: skip

Event = Mapping[str, object]


def render(event: Event, *, versioned: bool = False) -> str:
    """Render one event as a line of JSON; `versioned` with its schema's version first."""
    line: dict[str, object] = {"schema_version": SCHEMA_VERSION} if versioned else {}
    line["seq"] = event["seq"]
    recorded_at_ns = event["recorded_at_ns"]
    assert isinstance(recorded_at_ns, int), "a time in nanoseconds"
    line["recorded_at"] = rfc3339(recorded_at_ns / 1e9)
    line["specversion"] = "1.0"
    line |= {name: event[name] for name in _NAMES if event[name] is not None}
    # Readers see an id in every event: what has none of its own gets producer and ticket.
    line.setdefault("id", f"{event['producer_no']}:{event['ticket']}")
    extensions = event["extensions"]
    if isinstance(extensions, str):
        known: dict[str, object] = json.loads(extensions)
        line |= {name: value for name, value in known.items() if name not in line}
    data = event["data"]
    assert isinstance(data, bytes), "data is bytes"
    if event["opaque"]:
        line["data_base64"] = base64.b64encode(data).decode()
        return json.dumps(line, ensure_ascii=False)
    # The logged text itself: parsing it would change numbers and order.
    return f'{json.dumps(line, ensure_ascii=False)[:-1]}, "data": {one_line(data.decode())}}}'


def one_line(text: str) -> str:
    """Put JSON text on one line: raw line ends in it are white space between tokens."""
    return text.replace("\r", " ").replace("\n", " ")


class Tail:
    """Reads the log forward, to what is durable."""

    def __init__(self, reader: "LogReader") -> None:
        self._reader = reader

    def seek_near(self, durable_seq: int, count: int) -> None:
        """Go to the segment that holds the event `count` before the end, or one before it."""
        wanted = durable_seq - count + 1
        held = [one for one in self._reader.segments() if one["groups"]]
        first = next((one for one in reversed(held) if one["first_seq"] <= wanted), None)
        first = first or (held[0] if held else None)
        if first is not None and first["first_group"] > 1:
            self._reader.seek(first["first_group"] - 1)

    def last_seq(self) -> int:
        """Return the last seq that the segments hold."""
        return max((one["last_seq"] for one in self._reader.segments()), default=0)

    def events(self, durable_seq: int) -> Iterator[Event]:
        """Yield what is there up to `durable_seq`; gaps are told on stderr."""
        while batch := self._reader.next_batch(durable_seq, BATCH_ROWS_MAX, BATCH_BYTES_MAX):
            for first, last, reason in batch.gaps:
                click.echo(f"certeus: gap {first}..{last} ({reason})", err=True)
            for row in range(batch.rows):
                yield batch.event(row)


@click.command(epilog=examples("certeus tail -n 100 | jq .data", "certeus tail -f"))
@click.option("-n", "count", metavar="N", type=click.IntRange(0), default=10, show_default=True,
              help="How many of the last events.")  # fmt: skip
@click.option("-f", "--follow", is_flag=True, help="Go on as events become durable.")
@json_option
@click.pass_context
def command(context: click.Context, count: int, follow: bool) -> None:
    """Print the last events of the log, one JSON object a line.

    With a daemon these are the durable ones, without one what the log on disk holds. `--json` adds
    schema_version to each.
    """
    from certeusd.log.reader import LogReader

    directory = log_directory(context)
    client = client_of(context)
    versioned = wants_json(context)

    def durable_seq() -> int:
        found = client.get("/v1/status")["durable_seq"]
        assert isinstance(found, int), "durable_seq is a number"
        return found

    try:
        tail = Tail(LogReader(directory))
        try:
            durable = durable_seq()
        except ExitError:
            if follow:
                raise
            durable = tail.last_seq()
        tail.seek_near(durable, count)
        for event in deque(tail.events(durable), maxlen=count):
            click.echo(render(event, versioned=versioned))
        while follow:
            sys.stdout.flush()
            time.sleep(FOLLOW_POLL_S)
            for event in tail.events(durable_seq()):
                click.echo(render(event, versioned=versioned))
    except PermissionError as error:
        raise ExitError(
            Exit.NOT_ALLOWED, f"cannot read {directory}: not allowed; become the daemon's user"
        ) from error
    except FileNotFoundError as error:
        raise ExitError(
            Exit.FAILED, f"cannot read {directory}: no log there; give --state-dir"
        ) from error
