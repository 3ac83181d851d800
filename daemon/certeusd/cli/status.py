"""`certeus status`: exits 0 whenever it got an answer; what is wrong stands in the answer."""

from typing import cast

import click

from certeusd.cli.common import client_of, console, json_option, print_json, wants_json
from certeusd.control.client import Json
from certeusd.human import human_bytes, human_count, human_seconds

STYLES = {
    "ready": "bold green",
    "degraded": "bold yellow",
    "recovering": "bold cyan",
    "starting": "bold cyan",
    "draining": "bold magenta",
}


@click.command()
@json_option
@click.pass_context
def command(context: click.Context) -> None:
    """Show state, positions and reasons.

    Each reason has what to do about it. The exit code is 0 whenever there is an answer, also of a
    daemon that is degraded: what is wrong stands in it.
    """
    status = client_of(context).get("/v1/status")
    if wants_json(context):
        print_json(status)
    else:
        show(status)


def show(status: Json) -> None:
    """Print the status for a human."""
    from rich.markup import escape
    from rich.table import Table

    out = console()
    state = str(status["state"])
    style = STYLES.get(state, "bold")
    out.print(
        f"[{style}]● {state}[/] since {status['since']}   certeus {status['version']},"
        f" pid {status['pid']}, up {human_seconds(cast(float, status['uptime_seconds']))}"
    )
    recovery = cast(Json | None, status.get("recovery"))
    if recovery is not None:
        done, total = cast(int, recovery["bytes_done"]), cast(int, recovery["bytes"])
        out.print(
            f"  {recovery['phase']}: segment {recovery['segments_done']} of"
            f" {recovery['segments']}, {human_bytes(done)} of {human_bytes(total)}"
        )
    for reason in cast(list[dict[str, str]], status["reasons"]):
        out.print(f"  [yellow]{reason['code']}[/] since {reason['since']}:"
                      f" {escape(reason['what'])}")  # fmt: skip
        if reason["next"]:
            out.print(f"    → {escape(reason['next'])}")
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
    table.add_column(style="dim")
    table.add_column()
    for name, text in _rows(status):
        table.add_row(name, escape(text))
    out.print(table)


def _rows(status: Json) -> list[tuple[str, str]]:
    log = cast(dict[str, int], status["log"])
    dedup = cast(Json, status["dedup"])
    postgres = cast(Json, status["postgres"])
    processes = [*cast(list[Json], status["processes"]), *cast(list[Json], status["workers"])]
    lag, lag_s = cast(int, status["lag_events"]), cast(float, status["lag_seconds"])
    running = ", ".join(
        f"{one['name']} {one['pid'] or 'down'}"
        + (f" (restarts: {one['restarts']})" if one["restarts"] else "")
        for one in processes
    )
    connected = "connected" if postgres["connected"] else "not connected"
    window = f"{human_count(cast(int, dedup['keys']))} ids from seq {dedup['from_seq']}"
    return [
        ("durable", f"seq {human_count(cast(int, status['durable_seq']))}"),
        ("flushed", f"seq {human_count(cast(int, status['flushed_seq']))}"),
        ("lag", f"{human_count(lag)} events" + (f", {human_seconds(lag_s)}" if lag else "")),
        ("postgres", f"{postgres['mode']}, {postgres['state']}, {connected},"
                     f" version {postgres['version'] or 'unknown'}{_breaker(postgres)}"),
        ("log", f"{human_bytes(log['bytes'])} of {human_bytes(log['bytes_max'])} in"
                f" {log['segments']} segment{'' if log['segments'] == 1 else 's'}"
                f"{', full' if log['full'] else ''}"),
        ("dedup", window + (f" ({dedup['from_time']})" if dedup["from_time"] else "")),
        *_bottleneck(status),
        ("sessions", f"{status['sessions']}, producers known {status['producers']}"),
        ("processes", running),
        ("state dir", str(status["state_dir"])),
        *_pending(status),
    ]  # fmt: skip


def _bottleneck(status: Json) -> list[tuple[str, str]]:
    """Name the stage that holds the others up."""
    found = cast(dict[str, str] | None, status.get("bottleneck"))
    return [("bottleneck", f"{found['stage']}: {found['what']}")] if found else []


def _pending(status: Json) -> list[tuple[str, str]]:
    """Say which keys were changed and do not hold yet."""
    keys = cast(list[str], status.get("pending", []))
    return [("not yet", f"{', '.join(keys)}: hold after a restart")] if keys else []


def _breaker(postgres: Json) -> str:
    """Say what the breaker does, unless it is closed."""
    breaker = cast(Json | None, postgres.get("breaker"))
    if not breaker or breaker["state"] == "closed":
        return ""
    at = breaker["next_attempt_at"]
    if breaker["state"] == "half-open":
        when = ""
    elif at is None:
        when = ", no attempt before `certeus retry`"
    else:
        when = f", next attempt {at}"
    return f"; breaker {breaker['state']}: {breaker['cause']}, failures {breaker['failures']}{when}"
