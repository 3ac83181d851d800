"""`certeus log repair`: what the next start would do about damage, shown, and on demand done.

It is a start and nothing more: the same code, first on a disk that forgets what is written, to
show it; then, confirmed, for good. Damaged bytes are copied to the quarantine, lost numbers go into
a gap record in a new segment, and no byte of an old segment changes before its end.
"""

import os
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import click

from certeusd.cli.common import (
    json_option,
    log_directory,
    paths_of,
    print_json,
    reading,
    wants_json,
)
from certeusd.cli.parameters import ANY_FILE
from certeusd.exits import Exit, ExitError

if TYPE_CHECKING:
    from certeusd._native import LogOptions, StartPlan
    from certeusd.paths import Paths


@click.command(short_help="Do what a start would do about damage; needs the daemon stopped.")
@click.option("--config", metavar="FILE", type=ANY_FILE, help="The daemon's configuration file.")
@click.option("--yes", is_flag=True, help="Do it without asking.")
@json_option
@click.pass_context
def command(context: click.Context, config: str | None, yes: bool) -> None:
    """Show what the next start would do about damage, and do it if you agree.

    Damaged bytes are copied to quarantine/, a gap record in a new segment names the numbers that
    are gone. Nothing else is changed, and nothing at all without damage. The daemon must be
    stopped; without --yes and without a terminal nothing is done, and the exit code is 75.
    """
    from certeusd.supervisor import locks

    paths = paths_of(context)
    directory = log_directory(context)
    options = _options(config, paths)
    key = _key(paths)
    _be_the_owner(directory)
    held = locks.hold(paths.lock)
    try:
        with reading(directory):
            plan = _plan(paths, key, options)
        damage = bool(plan["gaps"] or plan["older"] or plan["torn"] or _renamed(plan))
        wanted = damage and _agreed(context, plan, yes=yes)
        if wanted:
            _start(paths, key, options)
    finally:
        os.close(held)
    if wants_json(context):
        print_json(_described(plan) | {"damage": damage, "done": wanted})
    elif not damage:
        click.echo("nothing to repair: a start would change nothing but open a new segment")
    elif wanted:
        click.echo("done: certeus log check tells what is left; quarantine/ has the bytes")
    if damage and not wanted:
        context.exit(Exit.TRY_AGAIN)


def _agreed(context: click.Context, plan: "StartPlan", *, yes: bool) -> bool:
    if not wants_json(context):
        click.echo(f"the log ends as {plan['label']!r}; a start would")
        for segment_no, label in plan["older"]:
            click.echo(f"  note     segment {segment_no}: {label}")
        for first, last, reason in plan["gaps"]:
            click.echo(f"  record   seq {first}..{last} as gone ({reason})")
        for kind, name, to in plan["changes"]:
            click.echo(f"  {kind:8} {name}" + (f" to {to}" if to else ""))
        click.echo(f"  open     segment {plan['segment_no']}, going on at seq {plan['next_seq']}")
    if yes:
        return True
    if wants_json(context) or not sys.stdin.isatty():
        click.echo("certeus: nothing was done: give --yes", err=True)
        return False
    return click.confirm("Do this?")


def _renamed(plan: "StartPlan") -> bool:
    return any(kind == "rename" for kind, _, _ in plan["changes"])


def _described(plan: "StartPlan") -> dict[str, object]:
    gaps = [{"first_seq": a, "last_seq": b, "reason": why} for a, b, why in plan["gaps"]]
    changes = [{"change": kind, "path": name, "to": to} for kind, name, to in plan["changes"]]
    older = [{"segment_no": number, "label": label} for number, label in plan["older"]]
    return {"label": plan["label"], "older": older, "gaps": gaps, "changes": changes,
            "segment_no": plan["segment_no"], "next_seq": plan["next_seq"]}  # fmt: skip


def _options(config: str | None, paths: "Paths") -> "LogOptions":
    from certeusd import config_sources
    from certeusd.log import served
    from certeusd.log.follower import read_position

    loaded = config_sources.load(config).config
    section, dedup = loaded.log, loaded.dedup
    follower = read_position(paths.followers)
    try:
        before = served.read(paths.state_dir)
    except (OSError, ValueError) as error:
        raise ExitError(Exit.FAILED, str(error)) from error
    return {
        "segment_bytes": section.segment_bytes,
        "group_bytes_max": section.group_bytes_max,
        "group_records_max": section.group_records_max,
        "linger_us": section.linger_us,
        "bytes_max": section.bytes_max,
        "disk_reserve_bytes": section.disk_reserve_bytes,
        "retain_bytes": section.retain_bytes,
        "recycle": section.recycle,
        "dedup_keys": dedup.keys,
        "dedup_producers": dedup.producers,
        "follower_group": follower.group,
        "follower_seq": follower.seq,
        "follower_root": follower.root,
        "log_name": b"",
        "log_served": b"" if before is None else before.bytes,
    }


def _key(paths: "Paths") -> bytes:
    try:
        key = paths.log_key.read_bytes()
    except OSError as error:
        raise ExitError(
            Exit.FAILED, f"cannot read {paths.log_key}: {error.strerror}; a start needs it too"
        ) from error
    if len(key) != 32:
        raise ExitError(Exit.FAILED, f"cannot use {paths.log_key}: not 32 bytes; put it back")
    return key


def _be_the_owner(directory: Path) -> None:
    """Files made by somebody else could not be opened by the daemon afterwards."""
    owner = directory.stat().st_uid
    if owner != os.geteuid():
        raise ExitError(
            Exit.NOT_ALLOWED,
            f"cannot repair {directory}: it belongs to uid {owner}, not to {os.geteuid()}; run it"
            f" as that user (setpriv --reuid {owner} --clear-groups certeus log repair)",
        )


def _plan(paths: "Paths", key: bytes, options: "LogOptions") -> "StartPlan":
    from certeusd.log.reader import log_plan

    return log_plan(
        paths.log, paths.quarantine, key, options["dedup_keys"], options["dedup_producers"],
        follower_group=options["follower_group"], follower_seq=options["follower_seq"],
        follower_root=options["follower_root"],
    )  # fmt: skip


def _start(paths: "Paths", key: bytes, options: "LogOptions") -> None:
    """Recover for good, as the log writer does, and end."""
    from certeusd._native import LogBlockedError, LogFailedError, LogMissingError, LogWriter
    from certeusd.board import BOARD_BYTES
    from certeusd.log import served

    paths.quarantine.mkdir(mode=0o750, exist_ok=True)
    board = os.memfd_create("certeus-repair", os.MFD_CLOEXEC)
    os.ftruncate(board, BOARD_BYTES)
    try:
        writer = LogWriter(paths.log, paths.quarantine, board, key, options)
        served.write(paths.state_dir, uuid.UUID(bytes=writer.recovery()["log_uuid"]))
        writer.seal()
    except BlockingIOError as error:
        raise ExitError(
            Exit.TRY_AGAIN, f"cannot repair: {error}; a log writer is still ending, try again"
        ) from error
    except (LogBlockedError, LogFailedError, LogMissingError, OSError) as error:
        raise ExitError(Exit.FAILED, f"cannot repair: {error}; mend that and try again") from error
    finally:
        os.close(board)
