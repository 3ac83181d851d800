"""`certeus dead-letters accept`: an admin's word that many refused rows are as they should be."""

import click

from certeusd.cli.common import client_of, json_option, print_json, wants_json


@click.group()
def command() -> None:
    """Accept that many rows become dead letters."""


@command.command(short_help="Let refused rows become dead letters, however many.")
@click.option("--until", "until_seq", metavar="SEQ", type=click.IntRange(min=0),
              help="The last seq that is meant; default: all that is durable now.")  # fmt: skip
@json_option
@click.pass_context
def accept(context: click.Context, until_seq: int | None) -> None:
    """Let refused rows become dead letters, however many, up to a seq; later ones are guarded."""
    query = {} if until_seq is None else {"until_seq": str(until_seq)}
    answer = client_of(context).post("/v1/dead-letters-accept", 0.0, **query)
    if wants_json(context):
        print_json(answer)
    else:
        click.echo(str(answer["done"]))
