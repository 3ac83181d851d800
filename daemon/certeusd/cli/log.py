"""`certeus log`: the log on disk, with or without a daemon."""

import os
import sys
import uuid

import click

from certeusd.cli import log_export, log_inspect, log_ls, log_repair
from certeusd.cli.common import (
    json_option,
    log_directory,
    log_key_of,
    paths_of,
    print_json,
    reading,
    wants_json,
)
from certeusd.cli.parameters import examples
from certeusd.exits import Exit, ExitError
from certeusd.human import human_count


@click.group(
    epilog=examples(
        "certeus log check",
        "certeus log inspect 1017",
        "certeus log export 1..5000 --output events.ndjson",
    )
)
def command() -> None:
    """Look at the log on disk, with or without a daemon; only repair and fork ever write."""


command.add_command(log_ls.command, "ls")
command.add_command(log_inspect.command, "inspect")
command.add_command(log_export.command, "export")
command.add_command(log_repair.command, "repair")


@command.command(short_help="Verify checksums, chain, numbers and roots.")
@json_option
@click.pass_context
def check(context: click.Context) -> None:
    """Verify every checksum, the chain, that no number is missing, the roots, and the sidecars.

    Exits 1 on any damage. Bytes behind the last group are none: they were never acknowledged.
    """
    from certeusd.log.reader import LogReader

    directory = log_directory(context)
    key = log_key_of(paths_of(context))
    with reading(directory):
        report = LogReader(directory).check(None if wants_json(context) else _progress, key)
    good = bool(report["ok"])
    if wants_json(context):
        print_json(report)
    else:
        for finding in report["findings"]:
            click.echo(
                f"segment {finding['segment_no']}, offset {finding['offset']}:"
                f" {finding['reason']}, {finding['bytes']} bytes,"
                f" seq {finding['first_seq']}..{finding['last_seq']}"
            )
        roots = "roots computed again" if report["roots_checked"] else "roots not computed: no key"
        click.echo(
            f"{'good' if good else 'DAMAGED'}: {human_count(report['records'])} records in"
            f" {human_count(report['groups'])} groups, {roots}"
        )
    if not good:
        context.exit(Exit.FAILED)


@command.command(short_help="Give the log a new name, after `diverged`.")
@click.argument("log_id", type=click.UUID, help="The name that it has now.")
@json_option
@click.pass_context
def fork(context: click.Context, log_id: uuid.UUID) -> None:
    """Give the log a new name, so that a copy goes on beside the log that it was copied from.

    LOG_ID is what `certeus status --json` shows as `log_id`: what is not this very
    log is refused. The daemon must be stopped. No event is changed or lost; what PostgreSQL has
    under the old name stays there, and what it has not comes under the new one.
    """
    from certeusd.log import identity
    from certeusd.log.reader import LogReader
    from certeusd.supervisor import locks

    directory = log_directory(context)
    held = [locks.hold(paths_of(context).lock)]
    try:
        held.append(locks.hold(directory / "LOCK"))
        oldest = LogReader(directory).oldest()
        if oldest is None:
            raise ExitError(Exit.FAILED, f"cannot fork {directory}: there is no log yet")
        now = identity.of_log(directory, uuid.UUID(bytes=oldest["log_uuid"]))
        if now.log_uuid != log_id:
            raise ExitError(
                Exit.FAILED,
                f"cannot fork {directory}: the log there is {now.log_uuid}, not {log_id}; name the"
                " one that you mean, and give its --state-dir",
            )
        fresh = identity.fork(directory, now)
    except (OSError, ValueError) as error:
        raise ExitError(Exit.FAILED, f"cannot fork {directory}: {error}") from error
    finally:
        for descriptor in held:
            os.close(descriptor)
    if wants_json(context):
        print_json({"log_id": str(fresh.log_uuid), "forked_from": str(log_id)})
    else:
        click.echo(f"the log is {fresh.log_uuid} now, forked from {log_id}; start certeusd")


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\rsegment {done} of {total}", nl=done == total, err=True)
