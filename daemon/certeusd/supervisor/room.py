"""What `status` says when the log has no room: its bound is reached, or its disk has none."""

from certeusd.board import Board
from certeusd.supervisor.state import Reasons

REASONS = {
    "log-full": (
        "the log has reached its bound: producers wait, nothing is lost",
        "bring PostgreSQL back, so that the log empties; or raise log.bytes_max",
    ),
    "disk-full": (
        "the log's disk is down to its reserve ({free_mib} MiB are free): producers wait, nothing"
        " is lost",
        "make room on the disk of the state directory; PostgreSQL gets the reserve, so that the"
        " log can empty, and producers go on by themselves",
    ),
    "disk-low": (
        "the log's disk is down to its reserve ({free_mib} MiB are free): the log makes no new"
        " segment, and producers wait as soon as those it has are full",
        "make room on the disk of the state directory",
    ),
}
"""By code: what is wrong, and the next step."""


def reason(*, full: bool, short: bool) -> str | None:
    """Return the code of what is to be told; none if there is room."""
    if full:
        return "disk-full" if short else "log-full"
    return "disk-low" if short else None


def look(board: Board, reasons: Reasons, now: float) -> None:
    """Say what keeps the log from growing: its bound, or the disk; `now`: seconds since 1970."""
    full, short = board.get("log", "full"), board.get("log", "disk_short")
    code = reason(full=bool(full), short=bool(short))
    for other in set(REASONS) - {code}:
        reasons.remove("supervisor", other)
    if code is not None:
        what, next_step = REASONS[code]
        free_mib = board.get("log", "disk_free_bytes") >> 20
        reasons.add("supervisor", code, what.format(free_mib=free_mib), next_step, now)
