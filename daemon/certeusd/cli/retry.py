"""`certeus retry`: an attempt at PostgreSQL now, and the only one after it reported damage."""

import click

from certeusd.cli.common import client_of, json_option, print_json, wants_json


@click.command()
@json_option
@click.pass_context
def command(context: click.Context) -> None:
    """Try PostgreSQL now, whatever its breaker says; `certeus status` shows what came of it."""
    answer = client_of(context).post("/v1/retry")
    if wants_json(context):
        print_json(answer)
    else:
        click.echo(str(answer["done"]))
