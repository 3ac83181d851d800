"""`certeus dsn`: waits until server and schema are there, and prints one URL."""

import click

from certeusd.cli.common import client_of, json_option, print_json, wants_json


@click.command()
@click.option("--show-password", is_flag=True, help="With the password; root and daemon only.")
@click.option("--timeout", "timeout_s", metavar="S", help="Seconds; then exit 75.",
              type=click.FloatRange(0, 86_400), default=60.0, show_default=True)  # fmt: skip
@json_option
@click.pass_context
def command(context: click.Context, show_password: bool, timeout_s: float) -> None:
    """Print the URL of the database, for psql and asyncpg."""
    query = {"timeout_s": f"{timeout_s:g}"}
    if show_password:
        query["show_password"] = "true"
    answer = client_of(context).get("/v1/dsn", timeout_s, **query)
    if wants_json(context):
        print_json(answer)
    else:
        click.echo(answer["dsn"])
