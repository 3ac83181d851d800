"""`certeus flush pause|resume`: for work on PostgreSQL that wants nobody to write."""

import click

from certeusd.cli.common import client_of, json_option, print_json, wants_json

PAUSE_TIMEOUT_S = 60.0
"""The batch under way ends first."""


@click.group()
def command() -> None:
    """Pause the delivery to PostgreSQL, and resume it.

    Events are taken and durable all the same; they stay in the log, as long as it has room.
    """


@command.command()
@json_option
@click.pass_context
def pause(context: click.Context) -> None:
    """Deliver nothing until `resume`, or the next start of the daemon.

    Ends when certeus has no connection to PostgreSQL any more.
    """
    _order(context, "/v1/flush-pause")


@command.command()
@json_option
@click.pass_context
def resume(context: click.Context) -> None:
    """Deliver again."""
    _order(context, "/v1/flush-resume")


def _order(context: click.Context, path: str) -> None:
    answer = client_of(context).post(path, wait_s=PAUSE_TIMEOUT_S)
    if wants_json(context):
        print_json(answer)
    else:
        click.echo(answer["done"])
