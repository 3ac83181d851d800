"""`certeus gap accept`: an admin's word that a range is lost to this database."""

import re
from typing import cast

import click

from certeusd.cli.common import client_of, json_option, print_json, wants_json
from certeusd.control.client import Json
from certeusd.exits import Exit, ExitError

_RANGE = re.compile(r"([0-9]{1,19})\.\.([0-9]{1,19})")


@click.group()
def command() -> None:
    """Accept a gap at which the flusher stopped."""


@command.command(short_help="Write off a range that the log no longer has.")
@click.argument("shown", metavar="[FIRST..LAST]", required=False,
                help="The range that status shows.")  # fmt: skip
@json_option
@click.pass_context
def accept(context: click.Context, shown: str | None) -> None:
    """Write off a range that the log no longer has; it is written into certeus.gaps.

    FIRST..LAST is the range that `certeus status` shows; any other gap is refused. Without it, the
    gap of this moment is taken, and told.
    """
    client = client_of(context)
    if shown is None:
        reports = cast(dict[str, Json], client.get("/v1/status")["reports"])
        gap = reports.get("gap") or {}
        if not gap:
            raise ExitError(Exit.FAILED, "the flusher does not wait for the acceptance of a gap")
        shown = f"{gap['first_seq']}..{gap['last_seq']}"
    found = _RANGE.fullmatch(shown)
    if found is None:
        raise click.UsageError(f"{shown} is no range such as 17..20")
    answer = client.post("/v1/gap-accept", first_seq=found[1], last_seq=found[2])
    if wants_json(context):
        print_json(answer)
    else:
        click.echo(f"accepted; certeus.gaps names {shown}")
