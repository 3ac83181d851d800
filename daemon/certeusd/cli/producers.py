"""`certeus producers`: one row a session that is there now."""

import click
import msgspec

from certeusd.cli.common import client_of, console, json_option, print_json, wants_json
from certeusd.control import types
from certeusd.human import human_bytes, human_count

COLUMNS = ("source", "tenant", "uid", "pid", "worker", "since", "events", "bytes", "duplicates",
           "rejected", "in flight", "ring", "p50", "p99")  # fmt: skip
WORDS = {"source", "tenant", "since", "rejected"}


@click.command()
@json_option
@click.pass_context
def command(context: click.Context) -> None:
    """Show the producers that are connected, with sums since each connected.

    p50 and p99 are from the reading of an event to its verdict, true to a factor of two. What they
    do just now: certeus top.
    """
    answer = client_of(context).get("/v1/producers")
    if wants_json(context):
        print_json(answer)
        return
    from rich.table import Table

    found = msgspec.convert(answer, types.Producers)
    table = Table(box=None, header_style="dim")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in WORDS else "right")
    for one in found.producers:
        table.add_row(*_cells(one))
    console().print(table)
    for name in found.unanswered:
        click.echo(f"{name} has not told all of its producers; see certeus status", err=True)


def _cells(one: types.Producer) -> list[str]:
    from rich.markup import escape

    from certeusd.human import short_time

    return [
        escape(one.source), escape(one.tenant), str(one.uid), str(one.pid), str(one.worker),
        one.since, human_count(one.events_total), human_bytes(one.bytes_total),
        human_count(one.duplicates_total),
        ", ".join(f"{human_count(count)} {reason}" for reason, count in one.rejected.items()),
        human_count(one.in_flight), f"{one.ring_used_bytes / one.ring_bytes:.0%}",
        short_time(one.ack_p50_seconds), short_time(one.ack_p99_seconds),
    ]  # fmt: skip
