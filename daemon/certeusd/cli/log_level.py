"""`certeus log-level`: what the processes log, changed while they run."""

import re

import click

from certeusd.cli.common import client_of, json_option, print_json, wants_json
from certeusd.cli.parameters import examples

# As certeusd.logs has them, whose import would make every Tab in a shell wait.
LEVELS = ("debug", "info", "warning", "error")
MODULES = ("supervisor", "worker", "log", "flush", "api", "syslog", "journal")
UNITS_S = {"s": 1, "m": 60, "h": 3600}


class Duration(click.ParamType[float]):
    """`90`, `90s`, `10m`, `2h`; seconds."""

    name = "duration"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Return the seconds."""
        found = re.fullmatch(r"(\d+)([smh]?)", str(value))
        if found is None:
            self.fail(f"{value!r} is no duration; write 90s, 10m or 2h", param, ctx)
        return int(found[1]) * UNITS_S[found[2] or "s"]


@click.command(epilog=examples("certeus log-level debug --module flush --for 10m"))
@click.argument("level", type=click.Choice(LEVELS), help="The least that is logged.")
@click.option("--module", type=click.Choice(MODULES), help="Only processes of this role.")
@click.option(
    "--for", "for_s", type=Duration(), metavar="TIME",
    help="As 90s, 10m, 2h; then as before. Without it: until the daemon starts again.",
)  # fmt: skip
@json_option
@click.pass_context
def command(context: click.Context, level: str, module: str | None, for_s: float | None) -> None:
    """Log from LEVEL on; nothing is written to the configuration."""
    query = {"level": level}
    if module is not None:
        query["module"] = module
    if for_s is not None:
        query["for_s"] = f"{for_s:g}"
    answer = client_of(context).post("/v1/log-level", 0.0, **query)
    if wants_json(context):
        print_json(answer)
    else:
        click.echo(answer["done"])
