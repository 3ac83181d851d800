"""`certeus log`: the log on disk, with or without a daemon."""

import sys

import click

from certeusd.cli import log_export, log_inspect, log_ls, log_repair
from certeusd.cli.common import (
    human_count,
    json_option,
    log_directory,
    log_key_of,
    paths_of,
    print_json,
    reading,
    wants_json,
)
from certeusd.exits import Exit


@click.group()
def command() -> None:
    """Look at the log on disk, with or without a daemon; only repair ever writes."""


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


def _progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\rsegment {done} of {total}", nl=done == total, err=True)
