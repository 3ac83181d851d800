"""One question each, for whoever watches: log, delivery, PostgreSQL, workers, disk.

One check of everything would fail for anything, and stop a rolling start for it. Each of these
looks at what the supervisor knows already, so it costs nothing and waits for nobody. PostgreSQL
away is no reason to be unready: events are durable, as long as the log has room.
"""

from collections.abc import Callable
from typing import NamedTuple

from certeusd.control.types import Reason, Status

NO_ROOM = frozenset({"log-full", "disk-full"})
"""While one of these holds, nothing more is acknowledged."""


class Check(NamedTuple):
    """What it asks, and what makes it fail."""

    holds: str
    """What is so while it passes: for the references."""
    codes: frozenset[str]
    """Reasons that do."""
    fault: Callable[[Status], str]
    """What the status alone shows; empty: nothing."""


def _log(status: Status) -> str:
    return _down(status, "log", "the log writer")


def _flush(status: Status) -> str:
    return _down(status, "flush", "the flusher")


def _down(status: Status, role: str, name: str) -> str:
    ready = all(one.ready for one in status.processes if one.role == role)
    return "" if ready else f"{name} is not at work"


def _postgres(status: Status) -> str:
    return "" if status.postgres.connected else "there is no connection to PostgreSQL"


def _workers(status: Status) -> str:
    down = [one.name for one in status.workers if not one.ready]
    return f"{', '.join(down)}: not at work" if down else ""


def _nothing(_: Status) -> str:
    return ""


CHECKS: dict[str, Check] = {
    "log": Check(
        "the log writer is at work, its disk answers, the log has room",
        frozenset({
            "log-failed", "log-read-only", "log-stalled", "log-blocked", "log-missing",
            "log-full", "waiting-for-lock", "quarantine-failed",
        }),
        _log,
    ),
    "flush": Check(
        "delivery is where it should be",
        frozenset({
            "flush-stalled", "diverged", "behind-log", "log-gap", "log-unreadable",
            "dead-letter-rate", "position-file", "follower-lagging",
        }),
        _flush,
    ),
    "postgres": Check(
        "there is a connection, and the server takes what it gets",
        frozenset({
            "postgres-away", "postgres-refuses", "postgres-broken", "postgres-locked",
            "postgres-leaves",
        }),
        _postgres,
    ),
    "workers": Check(
        "every worker gives signs of life", frozenset({"worker-stalled"}), _workers
    ),
    "disk": Check(
        "the disk has more than its reserve, and can be written",
        frozenset({"disk-low", "disk-full", "log-read-only"}), _nothing,
    ),
}  # fmt: skip


def faults(name: str, status: Status) -> list[str]:
    """Say what keeps a check from passing; nothing: it passes."""
    check = CHECKS[name]
    found = [told(reason) for reason in status.reasons if reason.code in check.codes]
    alone = check.fault(status)
    return [*found, alone] if alone else found


def no_room(status: Status) -> list[str]:
    """Say what keeps events from being acknowledged although everything runs."""
    return [told(reason) for reason in status.reasons if reason.code in NO_ROOM]


def told(reason: Reason) -> str:
    """One reason in one line."""
    return f"{reason.code}: {reason.what}" + (f" ({reason.next})" if reason.next else "")
