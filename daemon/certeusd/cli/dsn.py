"""`certeus dsn`: waits until server and schema are there, and prints one URL."""

import click

from certeusd.cli.common import client_of, json_option, print_json, wants_json
from certeusd.cli.parameters import examples


@click.command(epilog=examples('psql "$(certeus dsn)" -c "SELECT count(*) FROM certeus.events"'))
@click.option(
    "--show-password", is_flag=True, help="With the password; only for root and the daemon's user."
)
@click.option("--timeout", "timeout_s", metavar="SECONDS", help="Then exit 75.",
              type=click.FloatRange(0, 86_400), default=60.0, show_default=True)  # fmt: skip
@json_option
@click.pass_context
def command(context: click.Context, show_password: bool, timeout_s: float) -> None:
    """Print the URL of the database, for psql and asyncpg.

    Waits until the server and the schema are there.
    """
    query = {"timeout_s": f"{timeout_s:g}"}
    if show_password:
        query["show_password"] = "true"
    answer = client_of(context).get("/v1/dsn", timeout_s, **query)
    if wants_json(context):
        print_json(answer)
    else:
        click.echo(answer["dsn"])
