"""`certeus log ls`: each segment of the log, and what is left of those that are gone."""

from typing import TYPE_CHECKING

import click

from certeusd.cli.common import console, json_option, log_directory, print_json, reading, wants_json
from certeusd.control.types import rfc3339
from certeusd.human import human_bytes, human_count

if TYPE_CHECKING:
    from certeusd._native import LogFile, SegmentSummary

_COLUMNS = ("segment", "state", "first seq", "last seq", "records", "used", "file", "epoch",
            "created", "last", "sidecar")  # fmt: skip


@click.command(short_help="List the segments, the spare, and what is left of others.")
@json_option
@click.pass_context
def command(context: click.Context) -> None:
    """List the segments, the spare, and the sidecars of segments that are gone.

    States: `sealed` (complete), `active` (the newest, in which the log ends), `spare` (zeros, the
    next), `trimmed` (gone as it should; its sidecar keeps the ids), `damaged` (its header cannot be
    read).
    """
    from certeusd.log.reader import LogReader, log_files

    directory = log_directory(context)
    with reading(directory):
        held = {one["segment_no"]: one for one in LogReader(directory).segments()}
        files = log_files(directory)
    if wants_json(context):
        print_json({"segments": [_described(one, held.get(one["segment_no"])) for one in files]})
        return
    from rich.table import Table

    table = Table(box=None, header_style="dim")
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name in {"state", "sidecar"} else "right")
    for one in files:
        table.add_row(*_row(one, held.get(one["segment_no"])))
    console().print(table)


def _described(file: "LogFile", summary: "SegmentSummary | None") -> dict[str, object]:
    groups = dict(summary or {})
    if summary is None:
        names = ("created_at_ns", "epoch", "used_bytes", "groups", "records", "first_group",
                 "last_group", "recorded_at_ns")  # fmt: skip
        groups = dict.fromkeys(names, 0)
    return dict(file) | groups


def _row(file: "LogFile", summary: "SegmentSummary | None") -> list[str]:
    first, last = file["first_seq"], file["last_seq"]
    shown = [str(file["segment_no"]), file["state"]]
    if summary is not None and summary["groups"]:
        first, last = summary["first_seq"], summary["last_seq"]
    shown += [human_count(first), human_count(last)] if last >= first > 0 else ["", ""]
    if summary is None:
        shown += ["", "", human_bytes(file["file_bytes"]), "", "", ""]
    else:
        recorded = summary["recorded_at_ns"]
        shown += [human_count(summary["records"]), human_bytes(summary["used_bytes"]),
                  human_bytes(file["file_bytes"]), str(summary["epoch"]),
                  rfc3339(summary["created_at_ns"] / 1e9),
                  rfc3339(recorded / 1e9) if recorded else ""]  # fmt: skip
    keys = f" ({human_count(file['keys'])} ids)" if file["sidecar"] == "whole" else ""
    return [*shown, file["sidecar"] + keys]
