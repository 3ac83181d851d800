"""`certeus reload`: what `systemctl reload` runs, so it ends when the reload has."""

from typing import cast

import click

from certeusd.cli.common import client_of, json_option, print_json, wants_json

RELOAD_TIMEOUT_S = 300.0
"""A worker hands its producers over within `supervisor.drain_timeout_ms`."""


@click.command()
@json_option
@click.pass_context
def command(context: click.Context) -> None:
    """Have the daemon read its configuration again.

    Ends when the new one holds. One that cannot be used changes nothing, is explained, and ends
    with 78. Producers stay connected or reconnect by themselves; nothing is lost.
    """
    answer = client_of(context).post("/v1/reload", wait_s=RELOAD_TIMEOUT_S)
    if wants_json(context):
        print_json(answer)
        return
    changed, restarted, pending = (
        ", ".join(cast(list[str], answer[key])) for key in ("changed", "restarted", "pending")
    )
    click.echo(f"changed: {changed}" if changed else "nothing has changed")
    if restarted:
        click.echo(f"began anew: {restarted}, in {answer['seconds']} s")
    if pending:
        click.echo(f"waits for the next start of certeusd: {pending}")
