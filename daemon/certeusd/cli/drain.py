"""`certeus drain`: as SIGTERM to the daemon."""

import click

from certeusd.cli.common import client_of, json_option, print_json, wants_json


@click.command()
@json_option
@click.pass_context
def command(context: click.Context) -> None:
    """Accept no more, finish what is held, end the daemon.

    As SIGTERM does. Producers keep what has no verdict and reconnect to the next daemon.
    """
    answer = client_of(context).post("/v1/drain")
    if wants_json(context):
        print_json(answer)
    else:
        click.echo("draining; producers keep what is not acknowledged and reconnect")
