"""`certeus gap accept`: an admin's word that a range is lost to this database."""

import click

from certeusd.cli.common import client_of, json_option, print_json, wants_json


@click.group()
def command() -> None:
    """Accept a gap at which the flusher stopped."""


@command.command(short_help="Go on behind a range that the log no longer has.")
@json_option
@click.pass_context
def accept(context: click.Context) -> None:
    """Go on behind a range that the log no longer has; it is written into certeus.gaps."""
    answer = client_of(context).post("/v1/gap-accept")
    if wants_json(context):
        print_json(answer)
    else:
        click.echo("accepted; certeus.gaps names the range")
