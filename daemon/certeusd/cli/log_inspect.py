"""`certeus log inspect`: one record, the bytes it stands in, and what is derived from them."""

from typing import TYPE_CHECKING

import click

from certeusd.cli.common import (
    json_option,
    log_directory,
    log_key_of,
    paths_of,
    print_json,
    reading,
    seq_range,
    wants_json,
)
from certeusd.cli.log_places import why_missing
from certeusd.control.types import rfc3339
from certeusd.exits import Exit

if TYPE_CHECKING:
    from pathlib import Path

    from certeusd._native import GroupView, RecordPlace

INSPECT_MAX = 10_000
"""Each group is looked up anew: for more there is `export`."""

Shown = dict[str, object]


@click.command(short_help="Show records with their group, offsets, hashes and dedup key.")
@click.argument("which", metavar="SEQ|FIRST..LAST",
                help="A number of an event, or a range.")  # fmt: skip
@json_option
@click.pass_context
def command(context: click.Context, which: str) -> None:
    """Show records with their group, offsets, hashes and dedup key.

    A number that the log does not hold is told with the reason; then the exit code is 1.
    """
    first, last = seq_range(which)
    if last - first >= INSPECT_MAX:
        raise click.UsageError(f"{which} are more than {INSPECT_MAX} numbers: use log export")
    directory = log_directory(context)
    key = log_key_of(paths_of(context))
    with reading(directory):
        records, missing = _look(directory, first, last, key)
    if wants_json(context):
        print_json({"records": records, "missing": missing, "keyed": key is not None})
    else:
        for one in records:
            _print(one, keyed=key is not None)
        for gap in missing:
            click.echo(f"seq {gap['first_seq']}..{gap['last_seq']}: {gap['what']}")
    if missing:
        context.exit(Exit.FAILED)


def _look(
    directory: "Path", first: int, last: int, key: bytes | None
) -> tuple[list[Shown], list[Shown]]:
    from certeusd.log.reader import log_group_of

    records: list[Shown] = []
    missing: list[Shown] = []
    seq = first
    while seq <= last:
        view = log_group_of(directory, seq, key)
        if view is None:
            gap = why_missing(directory, seq, last)
            missing.append(gap.described())
            seq = gap.last_seq + 1
            continue
        texts = _texts(directory, view)
        for place in view["records"]:
            if seq <= place["seq"] <= last:
                records.append(_shown(view, place, texts.get(place["seq"])))
        seq = view["last_seq"] + 1
    return records, missing


def _texts(directory: "Path", view: "GroupView") -> dict[int, str]:
    """Render the events of a group; a record of an unknown kind has none."""
    from certeusd.log.reader import Filter
    from certeusd.log.tailing import Tailing

    tailing = Tailing(directory, Filter(), view["first_seq"] - 1, gaps=False)
    texts: dict[int, str] = {}
    while told := tailing.read(view["last_seq"], limit=1):
        if told.events:
            texts[told.last_seq] = told.bytes.decode().rstrip("\n")
    return texts


def _shown(view: "GroupView", place: "RecordPlace", text: str | None) -> Shown:
    group = {
        name: value.hex() if isinstance(value, bytes) else value
        for name, value in view.items()
        if name not in {"records", "recorded_at_ns"}
    }
    group["recorded_at"] = rfc3339(view["recorded_at_ns"] / 1e9)
    digest = place["dedup_digest"]
    return {
        "seq": place["seq"], "segment_no": view["segment_no"], "offset": place["offset"],
        "bytes": place["bytes"], "uid": place["uid"],
        "leaf": _hex(place["leaf"]), "dedup_key": _hex(place["dedup_key"]),
        "dedup_digest": None if digest is None else f"{digest:016x}",
        "group": group, "event": text,
    }  # fmt: skip


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


def _print(one: Shown, *, keyed: bool) -> None:
    group = one["group"]
    assert isinstance(group, dict), "made above"
    click.echo(f"seq {one['seq']}")
    click.echo(f"  record   segment {one['segment_no']}, offset {one['offset']},"
               f" {one['bytes']} bytes")  # fmt: skip
    click.echo(f"  group    {group['group']}: seq {group['first_seq']}..{group['last_seq']},"
               f" offset {group['offset']}, {group['bytes']} bytes, {group['entries']} entries,"
               f" epoch {group['epoch']}")  # fmt: skip
    click.echo(f"  recorded {group['recorded_at']}")
    state = {True: "matches the records", False: "DOES NOT MATCH the records",
             None: "not computed again: no key"}[group["root_matches"]]  # fmt: skip
    click.echo(f"  root     {group['root']} ({state})")
    click.echo(f"  hash     {group['hash']}")
    click.echo(f"  leaf     {one['leaf'] or ('' if keyed else 'unknown: no key')}")
    if one["dedup_key"]:
        click.echo(f"  dedup    key {one['dedup_key']}, content {one['dedup_digest']}")
    else:
        click.echo(f"  dedup    {'none: no id of its own' if keyed else 'unknown: no key'}")
    click.echo(f"  uid      {'unknown' if one['uid'] is None else one['uid']}")
    click.echo(f"  event    {one['event'] or 'a record of a kind that this version skips'}")
