"""`certeus top`: who appends how fast, how full, how late; again each second, or once."""

import sys
import time

import click
import msgspec

from certeusd.cli.common import client_of, console, json_option, print_json, wants_json
from certeusd.cli.top_sample import take
from certeusd.control.client import ControlClient
from certeusd.control.rates import View, view
from certeusd.control.types import rfc3339
from certeusd.exits import Exit, ExitError

ANSWER_TIMEOUT_S = 3.0
NO_SCREEN = (
    "cannot show the screen: Textual is not installed; install certeus with its extra `top`,"
    " or use certeus top --once"
)


@click.command()
@click.option("--once", is_flag=True, help="Look twice, an interval apart, print tables, and end.")
@click.option("--interval", type=click.FloatRange(1.0, 3600.0), default=1.0, metavar="S",
              help="Seconds between two looks; 1 by default.")  # fmt: skip
@json_option
@click.pass_context
def command(context: click.Context, once: bool, interval: float) -> None:
    """Show stages, workers, producers and followers while they are at work.

    Rates, p50 and p99 are those of the last interval. Where output is no terminal, or with --json,
    the same as --once. On the screen: q ends it, ? explains it.
    """
    client = ControlClient(client_of(context).path, ANSWER_TIMEOUT_S)
    if once or wants_json(context) or not sys.stdout.isatty():
        before = take(client)
        time.sleep(interval)
        seen = view(before, take(client))
        if wants_json(context):
            print_json(document(seen))
        else:
            from certeusd.cli.top_tables import everything

            out = console()
            out.print(everything(seen, out.width, expand=out.is_terminal))
        return
    try:
        from certeusd.cli.top_screen import Top
    except ImportError as error:
        raise ExitError(Exit.FAILED, NO_SCREEN) from error
    Top(lambda: take(client), interval).run()


def document(seen: View) -> dict[str, object]:
    """What `--json` prints."""
    status = seen.status
    return {
        "at": rfc3339(seen.at),
        "interval_seconds": seen.interval_seconds,
        "state": status.state,
        "since": status.since,
        "reasons": msgspec.to_builtins(status.reasons),
        "bottleneck": msgspec.to_builtins(status.bottleneck),
        "durable_seq": status.durable_seq,
        "flushed_seq": status.flushed_seq,
        "lag_events": status.lag_events,
        "lag_seconds": status.lag_seconds,
        "stages": msgspec.to_builtins(seen.stages),
        "workers": msgspec.to_builtins(seen.workers),
        "producers": msgspec.to_builtins(seen.producers),
        "followers": msgspec.to_builtins(seen.followers),
        "unanswered": seen.unanswered,
    }
