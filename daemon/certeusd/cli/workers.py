"""`certeus workers`: one row a worker."""

from typing import cast

import click

from certeusd.cli.common import (
    client_of,
    console,
    human_bytes,
    human_count,
    json_option,
    print_json,
    wants_json,
)
from certeusd.control.client import Json

COLUMNS = ("worker", "pid", "state", "cpu", "cpu %", "memory", "sessions", "events", "rejected",
           "in flight", "restarts")  # fmt: skip


@click.command()
@json_option
@click.pass_context
def command(context: click.Context) -> None:
    """Show the worker processes."""
    answer = client_of(context).get("/v1/workers")
    if wants_json(context):
        print_json(answer)
        return
    from rich.table import Table

    table = Table(box=None, header_style="dim")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "state" else "right")
    for worker in cast(list[Json], answer["workers"]):
        table.add_row(*_cells(worker))
    console().print(table)


def _cells(worker: Json) -> list[str]:
    counters = cast(dict[str, int], worker["counters"])
    state = "[green]ready[/]" if worker["ready"] else "[yellow]starting[/]"
    return [
        str(worker["index"]),
        str(worker["pid"] or ""),
        state if worker["pid"] else "[red]down[/]",
        "any" if worker["cpu"] is None else str(worker["cpu"]),
        f"{cast(float, worker['cpu_percent']):.0f}",
        human_bytes(cast(int, worker["rss_bytes"])),
        *(
            human_count(counters[name])
            for name in ("sessions", "events_total", "rejected_total", "in_flight")
        ),
        str(worker["restarts"]),
    ]
