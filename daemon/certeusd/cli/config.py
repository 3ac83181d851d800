"""`certeus config show|diff`: what the daemon runs with, and what a reload would find."""

import json
from typing import cast

import click

from certeusd.cli.common import client_of, console, json_option, print_json, wants_json
from certeusd.cli.parameters import examples
from certeusd.control.client import Json


@click.group(
    epilog=examples(
        "certeus config show --changed",
        "certeus config diff || certeus reload",
    )
)
def command() -> None:
    """Show the configuration that holds; compare it with the files."""


@command.command()
@click.option(
    "--effective/--changed", default=True, help="Every key, or those alone that are not defaults."
)
@click.option("--origin/--no-origin", default=True, help="Say where each value came from.")
@json_option
@click.pass_context
def show(context: click.Context, effective: bool, origin: bool) -> None:
    """Show every key that the running daemon has, and where it came from.

    Users and groups of [[ingest]] are shown by number, as they were resolved.
    """
    answer = client_of(context).get("/v1/config")
    keys = [
        one
        for one in cast(list[dict[str, object]], answer["keys"])
        if effective or one["origin"] != "default"
    ]
    if wants_json(context):
        print_json(answer | {"keys": keys})
        return
    from rich.markup import escape
    from rich.table import Table

    pending = set(cast(list[str], answer["pending"]))
    table = Table(box=None, header_style="dim")
    for name in ("key", "value", *(["origin"] if origin else [])):
        table.add_column(name)
    for one in keys:
        is_set = one["origin"] != "default"
        value = escape(json.dumps(one["value"])) + (
            " [yellow](changed: holds after a restart)[/]" if one["key"] in pending else ""
        )
        cells = [str(one["key"]), value, *([escape(str(one["origin"]))] if origin else [])]
        table.add_row(*cells, style=None if is_set else "dim")
    console().print(table)


@command.command()
@json_option
@click.pass_context
def diff(context: click.Context) -> None:
    """Show what files and variables say by now and the daemon does not have.

    The exit code is 1 if there is any. `certeus reload` has it hold, but what is marked with
    `restart`.
    """
    answer = client_of(context).get("/v1/config-diff")
    found = cast(list[Json], answer["differences"])
    if wants_json(context):
        print_json(answer)
    elif not found:
        click.echo("no difference: the daemon runs with what the files say")
    else:
        _show(found)
    context.exit(1 if found else 0)


def _show(found: list[Json]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, header_style="dim")
    for name in ("key", "running", "in the files", "from", "by"):
        table.add_column(name)
    for one in found:
        table.add_row(
            str(one["key"]),
            escape(json.dumps(one["running"])),
            escape(json.dumps(one["read"])),
            escape(str(one["origin"])),
            "restart" if one["needs_restart"] else "reload",
        )
    console().print(table)
