"""`certeus sla`: whether the service levels of `[sla]` are met."""

from typing import cast

import click

from certeusd.cli.common import (
    client_of,
    console,
    json_option,
    print_json,
    wants_json,
)
from certeusd.control.client import Json
from certeusd.human import human_count, human_seconds

COLUMNS = ("objective", "promised", "measured", "at most", "samples", "met")


@click.command()
@json_option
@click.pass_context
def command(context: click.Context) -> None:
    """Show whether the service levels are met.

    Objectives and the window are those of `[sla]`. Times come from histograms of powers of two:
    what is measured is true to a factor of two, and never more than "at most". The exit code says
    only whether the daemon answered.
    """
    answer = client_of(context).get("/v1/sla")
    if wants_json(context):
        print_json(answer)
        return
    from rich.table import Table

    table = Table(box=None, header_style="dim")
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in {"objective", "met"} else "right")
    objectives = cast(list[Json], answer["objectives"])
    for one in objectives:
        table.add_row(*_cells(one))
    console().print(table)
    window = human_seconds(float(cast(int, answer["window_seconds"])))
    click.echo(f"over {window}, as far as the daemon runs: since {objectives[0]['since']}")


def _cells(one: Json) -> list[str]:
    unit = str(one["unit"])
    promised, measured, bound = (
        _shown(cast(float | None, one[name]), unit)
        for name in ("objective", "measured", "upper_bound")
    )
    met = "yes" if one["met"] else "[bold red]no[/]"
    if one["measured"] is None:
        met = "[dim]nothing measured[/]"
    samples = human_count(cast(int, one["samples"]))
    return [str(one["name"]), promised, measured, bound, samples, met]


def _shown(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    return f"{value:.4g} ms" if unit == "milliseconds" else f"{value:.4%}"
