"""`certeus wait`: for scripts; a timeout exits 75."""

import click

from certeusd.cli.common import client_of, json_option, print_json, wants_json
from certeusd.cli.parameters import examples
from certeusd.human import human_count, human_seconds


@click.command(
    epilog=examples(
        "certeus wait --ready --timeout 30",
        "certeus append orders.ndjson && certeus wait --flushed",
    )
)
@click.option("--ready", "until", flag_value="ready", help="Until the service takes events.")
@click.option("--durable", "until", flag_value="durable", help="Until all of it is synced to disk.")
@click.option("--flushed", "until", flag_value="flushed", help="Until all of it is in PostgreSQL.")
@click.option("--timeout", "timeout_s", metavar="SECONDS", help="Then exit 75.",
              type=click.FloatRange(0, 86_400), default=60.0, show_default=True)  # fmt: skip
@json_option
@click.pass_context
def command(context: click.Context, until: str | None, timeout_s: float) -> None:
    """Wait for what was accepted before this call.

    One of --ready, --durable and --flushed is needed.
    """
    if until is None:
        raise click.UsageError("give --ready, --durable or --flushed")
    query = {"until": until, "timeout_s": f"{timeout_s:g}"}
    answer = client_of(context).get("/v1/wait", timeout_s, **query)
    if wants_json(context):
        print_json(answer)
    elif until == "ready":
        click.echo("ready")
    else:
        seq, seconds = answer["seq"], answer["seconds"]
        assert isinstance(seq, int), "seq is a number"
        assert isinstance(seconds, int | float), "seconds is a number"
        click.echo(f"{until}: all up to seq {human_count(seq)}, after {human_seconds(seconds)}")
