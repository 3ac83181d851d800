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


RESTART_TIMEOUT_S = 120.0
"""A worker hands its producers over within `supervisor.drain_timeout_ms`."""


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def command(context: click.Context) -> None:
    """Show the worker processes; have one begin anew."""
    if context.invoked_subcommand is not None:
        return
    answer = client_of(context).get("/v1/workers")
    if wants_json(context):
        print_json(answer)
        return
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="dim")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name == "state" else "right")
    for worker in cast(list[Json], answer["workers"]):
        table.add_row(*_cells(worker))
    out = console()
    out.print(table)
    if (found := cast(Json | None, answer.get("scaling"))) is not None:
        out.print(f"  {escape(_number(found))}", style="dim")


@command.command()
@click.argument("index", type=click.IntRange(min=0), help="Number of the worker.")
@json_option
@click.pass_context
def restart(context: click.Context, index: int) -> None:
    """Have worker INDEX begin anew; ends when the next one is ready.

    It settles what its producers have handed over; they reconnect by themselves.
    """
    answer = client_of(context).post("/v1/worker-restart", RESTART_TIMEOUT_S, index=str(index))
    if wants_json(context):
        print_json(answer)
    else:
        click.echo(answer["done"])


def _number(found: Json) -> str:
    if found["min"] == found["max"]:
        return f"always {found['max']}"
    return f"{found['current']}, {found['min']} to {found['max']}: {found['why']}"


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
