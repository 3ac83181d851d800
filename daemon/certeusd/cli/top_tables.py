"""The tables of `certeus top`, for the screen and for `--once` alike. Pure: a view in, rich out.

Red is loss: an event was rejected or refused, a process is not there, a pin is gone. Yellow is
back-pressure: a ring is nearly full, workers wait for the log writer, the delivery is behind.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from certeusd.cli.status import STYLES
from certeusd.control.rates import Follower, Producer, Rate, Stage, View, Worker
from certeusd.human import (
    NONE,
    human_bytes,
    human_count,
    human_seconds,
    short,
    short_bytes,
    short_time,
)

LOSS, PRESSURE, QUIET, EMPTY = "bold red", "yellow", "dim", "bright_black"
FULL_FROM = 0.75
"""From so full a ring on, its producer is near back-pressure."""
WIDE = 100
"""From so many columns on, there is room for more of them."""
BAR_CELLS = 6
NAME_MIN = 16
COLUMNS_WIDTH = 84
"""Of the widest table in a wide screen, without its names."""

Order = Literal["rate", "p99", "ring", "rejected", "source"]
ORDERS: dict[Order, Callable[[Producer], tuple[float, str]]] = {
    "rate": lambda one: (-(one.events_per_second or 0.0), one.source),
    "p99": lambda one: (-(one.ack_p99_seconds or 0.0), one.source),
    "ring": lambda one: (-one.ring_fill, one.source),
    "rejected": lambda one: (-float(sum(one.rejected.values())), one.source),
    "source": lambda one: (0.0, one.source),
}
"""What the producers' table can be sorted by."""


# --- numbers -------------------------------------------------------------------------------------


def bar(share: float | None, wide: bool) -> Text:
    """Render how full something is."""
    if share is None:
        return Text(NONE, QUIET)
    style = PRESSURE if share >= FULL_FROM else ""
    percent = f"{share * 100:.0f} %"
    if not wide:
        return Text(percent, style)
    cells = round(share * BAR_CELLS)
    return Text.assemble(
        ("━" * cells, style or "green"),
        ("━" * (BAR_CELLS - cells), EMPTY),
        (f"{percent:>6}", style),
    )


def reasons(rejected: Mapping[str, int], speed: Rate) -> Text:
    """Render rejections by reason, red while there are new ones."""
    most = sorted(rejected.items(), key=lambda one: (-one[1], one[0]))
    text = ", ".join(f"{short(count)} {reason}" for reason, count in most)
    return Text(text, LOSS if speed else QUIET)


# --- the top -------------------------------------------------------------------------------------


def head(view: View) -> Text:
    """Say state, positions, the first reason and the bottleneck: two lines to four."""
    status = view.status
    clock = time.strftime("%H:%M:%S", time.localtime(view.at))
    state = Text.assemble(
        (f"● {status.state}", STYLES.get(status.state, "bold")),
        (f"  certeus {status.version}, up {human_seconds(status.uptime_seconds)}, {clock}", QUIET),
    )
    behind = PRESSURE if _is_behind(view) else ""
    positions = Text.assemble(
        ("durable ", QUIET), human_count(status.durable_seq),
        ("  flushed ", QUIET), human_count(status.flushed_seq),
        ("  lag ", QUIET), (f"{short(float(status.lag_events))} events", behind),
        (f", {human_seconds(status.lag_seconds)}" if status.lag_events else "", behind),
        (f", {human_bytes(_lag_bytes(view))}" if _lag_bytes(view) else "", behind),
    )  # fmt: skip
    lines = [state, positions]
    if status.reasons:
        first, others = status.reasons[0], len(status.reasons) - 1
        more = f" (and {others} more: certeus status)" if others else ""
        lines.append(Text(f"{first.code}: {first.what}{more}", PRESSURE))
        if first.next:
            lines.append(Text(f"  → {first.next}", PRESSURE))
    if status.bottleneck is not None:
        lines.append(Text(f"bottleneck {status.bottleneck.stage}: {status.bottleneck.what}",
                          PRESSURE))  # fmt: skip
    if view.unanswered:
        names = ", ".join(view.unanswered)
        lines.append(Text(f"no answer from {names}: their producers are not shown", LOSS))
    return Text("\n").join(lines)


def _lag_bytes(view: View) -> int:
    return max((one.lag_bytes for one in view.followers or []), default=0)


def _is_behind(view: View) -> bool:
    found = view.status.bottleneck
    return found is not None and found.stage == "deliver"


# --- tables --------------------------------------------------------------------------------------
# All four begin with the same columns, so that a number is looked for in one place.


class Grid(NamedTuple):
    """How wide columns are."""

    name: int
    wide: bool
    expand: bool
    """Whether the last column ends where the terminal does."""

    @classmethod
    def of(cls, view: View, width: int, expand: bool) -> "Grid":
        """As wide as the longest name, as far as there is room."""
        count = len(view.producers)
        titles = [f"producers {count} of {count}", *map(_name, view.workers)]
        names = [one.source for one in view.producers]
        wide = width >= WIDE
        room = width - COLUMNS_WIDTH if wide else NAME_MIN
        name = max(NAME_MIN, min(room, max(map(len, titles + names))))
        return cls(name, wide, expand)

    def table(self, title: str, columns: Mapping[str, int], last: str = "") -> Table:
        """Make a table of columns with their widths; `last` is text and gets what is left."""
        table = Table(box=None, header_style=QUIET, pad_edge=False, expand=self.expand,
                      padding=(0, 2 if self.wide else 1, 0, 0))  # fmt: skip
        table.add_column(Text(title, "bold"), width=self.name, no_wrap=True, overflow="ellipsis")
        widths = {"events/s": 8, **({"bytes/s": 10} if self.wide else {}), "p50": 7, "p99": 7}
        for name, cells in {**widths, **columns}.items():
            table.add_column(name, justify="right", width=cells, no_wrap=True, overflow="ellipsis")
        table.add_column(last, ratio=1, no_wrap=True, overflow="ellipsis")
        return table

    def speed(self, events: Text | str, byte_count: Rate) -> list[Text | str]:
        """The cells of events and bytes a second."""
        return [events, short_bytes(byte_count)] if self.wide else [events]

    @property
    def ring(self) -> int:
        """Width of the column for rings."""
        return BAR_CELLS + 6 if self.wide else 5


def stages(rows: Sequence[Stage], grid: Grid) -> Table:
    """One row a stage."""
    table = grid.table("stages", {"rejected/s": 10})
    for one in rows:
        lost = LOSS if one.rejected_per_second else ""
        table.add_row(
            one.stage, *grid.speed(short(one.events_per_second), one.bytes_per_second),
            short_time(one.p50_seconds), short_time(one.p99_seconds),
            Text(short(one.rejected_per_second), lost),
        )  # fmt: skip
    return table


def workers(rows: Sequence[Worker], grid: Grid) -> Table:
    """One row a worker."""
    columns = {"ring": grid.ring, "sess": 4, "CPU": 5, "on": 3, "restarts": 8}
    table = grid.table("workers", columns, "rejected")
    for one in rows:
        rate = Text(short(one.events_per_second), PRESSURE if one.forward_full_per_second else "")
        style = {"ready": "", "starting": PRESSURE}.get(one.state, LOSS)
        table.add_row(
            Text(_name(one), style), *grid.speed(rate, one.bytes_per_second),
            short_time(one.ack_p50_seconds), short_time(one.ack_p99_seconds),
            bar(one.ring_fill, grid.wide), str(one.sessions), f"{one.cpu_percent:.0f} %",
            _where(one), Text(str(one.restarts), LOSS if one.state == "crash-loop" else ""),
            reasons(one.rejected, one.rejected_per_second),
        )  # fmt: skip
    return table


def _name(one: Worker) -> str:
    return one.name if one.state == "ready" else f"{one.name} {one.state}"


def _where(one: Worker) -> Text:
    """Say on which CPU it runs; that it is not where it was pinned is a fault."""
    if one.cpu is None:
        return Text("any", QUIET)
    return Text(f"!{one.cpu}", LOSS) if one.pinned is False else Text(str(one.cpu))


def producers(rows: Sequence[Producer], grid: Grid, order: Order, wanted: str = "") -> Table:
    """One row a session of those that `wanted` stands in, in this order."""
    shown = [one for one in rows if matches(one, wanted)]
    count = f"{len(shown)} of {len(rows)}" if wanted else str(len(rows))
    table = grid.table(f"producers {count}", {"ring": grid.ring, "uid": 6, "pid": 8}, "rejected")
    for one in sorted(shown, key=ORDERS[order]):
        idle = "" if one.events_per_second is None or one.events_per_second else QUIET
        table.add_row(
            Text(one.source),
            *grid.speed(Text(short(one.events_per_second), idle), one.bytes_per_second),
            short_time(one.ack_p50_seconds), short_time(one.ack_p99_seconds),
            bar(one.ring_fill, grid.wide), str(one.uid), str(one.pid),
            reasons(one.rejected, one.rejected_per_second),
        )  # fmt: skip
    return table


def matches(one: Producer, wanted: str) -> bool:
    """Whether a producer has `wanted` in its source or tenant, or is it by uid or pid."""
    names = (one.source.casefold(), one.tenant.casefold())
    return any(wanted.casefold() in name for name in names) or wanted in (
        str(one.uid),
        str(one.pid),
    )


def followers(rows: Sequence[Follower] | None, grid: Grid) -> RenderableType:
    """One row a follower."""
    if rows is None:
        return Text("followers: the log cannot be read now", LOSS)
    columns = {"lag events": 10, "lag bytes": 9, "lag": 6}
    table = grid.table("followers", columns, "state")
    for one in rows:
        well = one.state in ("connected", "confirmed")
        table.add_row(
            one.name, *grid.speed(short(one.events_per_second), one.bytes_per_second),
            short_time(one.batch_p50_seconds), short_time(one.batch_p99_seconds),
            short(float(one.lag_events)), human_bytes(one.lag_bytes),
            NONE if one.lag_seconds is None else human_seconds(one.lag_seconds),
            Text(one.state, "green" if well else PRESSURE),
        )  # fmt: skip
    return table


def body(
    view: View, width: int, order: Order = "rate", wanted: str = "", *, expand: bool = True
) -> Group:
    """Everything below the head."""
    grid = Grid.of(view, width, expand)
    parts: list[RenderableType] = [
        stages(view.stages, grid),
        workers(view.workers, grid),
        producers(view.producers, grid, order, wanted),
        followers(view.followers, grid),
    ]
    spaced = [part for one in parts for part in (one, Text(""))]
    return Group(*spaced[:-1])


def everything(view: View, width: int, *, expand: bool) -> Group:
    """What `--once` prints; a file needs no spaces at the end of its lines."""
    return Group(head(view), Text(""), body(view, width, expand=expand))
