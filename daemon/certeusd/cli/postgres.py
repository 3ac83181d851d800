"""`certeus postgres upgrade`: the embedded PostgreSQL's cluster, for the next major version."""

import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from certeusd.cli.common import json_option, paths_of, print_json, wants_json
from certeusd.exits import Exit, ExitError

if TYPE_CHECKING:
    from certeusd.supervisor.postgres_upgrade import Outcome, Upgrade


@click.group()
def command() -> None:
    """Look after the embedded PostgreSQL."""


@command.command(short_help="Make the embedded cluster over for this certeus' PostgreSQL.")
@click.option("--old-bindir", metavar="DIR",
              help="Programs of the old version; default: /usr/lib/postgresql/OLD/bin, or those"
              " that the package has.")  # fmt: skip
@click.option("--link", is_flag=True,
              help="Link files instead of copying them: quick, no room, no way back.")  # fmt: skip
@click.option("--delete-old", is_flag=True, help="Remove the clusters of before the upgrade.")
@json_option
@click.pass_context
def upgrade(context: click.Context, old_bindir: str | None, link: bool, delete_old: bool) -> None:
    """Make the embedded cluster over for the PostgreSQL that this certeus brings.

    The daemon must be stopped. The old cluster is kept as postgres.before-upgrade-VERSION beside
    the new one. If it is killed or the power goes, run it again; with --link it must be, for until
    then the old cluster does not start. Where there is nothing to do it says so and exits 0.
    """
    from certeusd.supervisor.postgres_upgrade import Upgrade

    started = time.monotonic()
    paths = paths_of(context)
    if not _is_there(paths.postgres / "data"):
        if wants_json(context):
            print_json({"upgraded": False, "from": None, "to": None, "kept": [], "deleted": [],
                        "seconds": 0.0})  # fmt: skip
        else:
            click.echo(f"there is no embedded cluster in {paths.postgres}: nothing to do")
        return
    one = Upgrade(paths, link, lambda line: click.echo(line, err=True))
    outcome = _done(one, paths.lock, old_bindir)
    deleted = [] if not delete_old else one.kept()
    for kept in deleted:
        shutil.rmtree(kept)
    if wants_json(context):
        print_json({
            "upgraded": outcome.upgraded, "from": outcome.old, "to": outcome.new,
            "kept": [str(kept) for kept in one.kept()],
            "deleted": [str(kept) for kept in deleted],
            "seconds": round(time.monotonic() - started, 3),
        })  # fmt: skip
    else:
        _say(one, outcome, deleted)


def _done(one: "Upgrade", lock: Path, old_bindir: str | None) -> "Outcome":
    from certeusd.supervisor import locks
    from certeusd.supervisor.postgres_upgrade import Outcome

    if not one.is_needed and not one.is_unfinished:
        return Outcome(False, one.old, one.new, None)
    held = locks.hold(lock)
    try:
        return one.run(old_bindir)
    except OSError as error:
        raise ExitError(
            Exit.FAILED,
            f"cannot upgrade {one.home}: {error}; the cluster there is whole, correct this and run"
            " it again",
        ) from error
    finally:
        os.close(held)


def _say(one: "Upgrade", outcome: "Outcome", deleted: list[Path]) -> None:
    if outcome.upgraded:
        click.echo(f"{one.home}: PostgreSQL {outcome.old} is now {outcome.new}")
        click.echo("start certeusd: it delivers what the log holds since (systemctl start certeus)")
    else:
        click.echo(f"{one.home} is of PostgreSQL {outcome.old} already: nothing to do")
    for kept in deleted:
        click.echo(f"removed {kept}")
    for kept in one.kept():
        linked = (kept / "data" / "global" / "pg_control.old").exists()
        way = "it shares files with the new one: no way back" if linked else "whole"
        click.echo(f"{kept}: the old cluster, {way}; when all is well, remove it by"
                   " certeus postgres upgrade --delete-old")  # fmt: skip


def _is_there(data: Path) -> bool:
    """Whether there is a cluster; exit 77 to whoever is neither root nor the user that owns it."""
    try:
        owner = data.stat().st_uid
    except FileNotFoundError:
        return False
    except PermissionError as error:
        raise ExitError(
            Exit.NOT_ALLOWED, f"cannot look at {data}: not allowed; run it as its user, or as root"
        ) from error
    if os.geteuid() not in (0, owner):
        raise ExitError(
            Exit.NOT_ALLOWED,
            f"cannot upgrade {data}: it belongs to uid {owner}; run it as that user, or as root",
        )
    return True
