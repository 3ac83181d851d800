"""`certeus followers`: who follows the log and how far behind, with or without a daemon."""

import os
from typing import TYPE_CHECKING, cast

import click

from certeusd.cli.common import (
    client_of,
    console,
    json_option,
    log_directory,
    paths_of,
    print_json,
    reading,
    wants_json,
)
from certeusd.control.client import Json
from certeusd.exits import Exit, ExitError
from certeusd.human import human_bytes, human_count

if TYPE_CHECKING:
    from certeusd.control.types import Followers

COLUMNS = ("follower", "required", "state", "seq", "group", "lag events", "lag bytes",
           "holds log", "confirmed")  # fmt: skip


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def command(context: click.Context) -> None:
    """Show the followers of the log, or let go of one.

    Positions are those that a follower has synced: what it has got since may be more. A follower
    that is required and lacks events of complete segments holds these: they are not trimmed.
    Without a daemon the answer comes from the state directory.
    """
    if context.invoked_subcommand is not None:
        return
    answer = _answer(context)
    if wants_json(context):
        print_json(answer)
        return
    from rich.table import Table

    table = Table(box=None, header_style="dim")
    for name in COLUMNS:
        words = name in {"follower", "required", "state", "holds log", "confirmed"}
        table.add_column(name, justify="left" if words else "right")
    for one in cast(list[Json], answer["followers"]):
        table.add_row(*_cells(one))
    console().print(table)


def _answer(context: click.Context) -> Json:
    try:
        return client_of(context).get("/v1/followers")
    except ExitError as error:
        if error.code != Exit.UNREACHABLE:
            raise
    import msgspec

    from certeusd.control import followers

    directory = log_directory(context)
    with reading(directory):
        found: Followers = followers.seen(directory, paths_of(context).followers, None)
    return cast(Json, msgspec.to_builtins(found))


def _cells(one: Json) -> list[str]:
    return [
        str(one["name"]),
        "yes" if one["required"] else "no",
        str(one["state"]),
        human_count(cast(int, one["seq"])),
        human_count(cast(int, one["group"])),
        human_count(cast(int, one["lag_events"])),
        human_bytes(cast(int, one["lag_bytes"])),
        "yes" if one["holds_back"] else "no",
        str(one["confirmed_at"] or "never"),
    ]


@command.command(short_help="Let go of a follower that will not come back.")
@click.argument("name", help="As the list shows it.")
@json_option
@click.pass_context
def forget(context: click.Context, name: str) -> None:
    """Let go of follower NAME, which will not come back: its position is removed, durably.

    Should it come back all the same, it is told `behind-log` where the log has gone on without
    it; nothing is skipped in silence. PostgreSQL cannot be forgotten: what it has not confirmed
    is nowhere but in the log.
    """
    try:
        answer = client_of(context).post("/v1/followers-forget", name=name)
    except ExitError as error:
        if error.code != Exit.UNREACHABLE:
            raise
        answer = _forget_alone(context, name)
    if wants_json(context):
        print_json(answer)
    else:
        click.echo(answer["done"])


def _forget_alone(context: click.Context, name: str) -> Json:
    """Do what the daemon would; its lock keeps one from starting meanwhile."""
    from certeusd.control import followers
    from certeusd.supervisor import locks

    paths = paths_of(context)
    log_directory(context)
    held = locks.hold(paths.lock)
    try:
        followers.forget(paths.followers, name)
    except followers.RefusedError as error:
        raise ExitError(Exit.FAILED, str(error)) from error
    finally:
        os.close(held)
    return {"done": f"follower {name} forgotten"}
