"""Whether everybody gets on: what a process that runs, but does nothing, does not say of itself.

A word of the board that should move and has stayed the same for some ticks is all the evidence.
No clock is compared with another one, so a stopped process is found and a clock that was set is no
alarm. It is told, and nothing is done about it here: who is stopped may be under a debugger, and
its disk or its server may come back. Where systemd watches (`WatchdogSec=`), a process that gives
no sign of life although no disk keeps it is what its watchdog is not fed for.
"""

from collections.abc import Sequence

from certeusd.board import Board
from certeusd.channel import Role
from certeusd.supervisor.child import name_of
from certeusd.supervisor.state import Reasons

STALLED_TICKS = 5
FLUSH_STALLED_TICKS = 10
"""A large batch, or a checkpoint of PostgreSQL, may take seconds."""
HUNG_TICKS = 15
"""For so long a child may give no sign of life before the watchdog is not fed."""
LAGGING_TICKS = 900
"""For so long a follower may stand still before its share of the log is told."""

OWNER = "supervisor"
LOG_STALLED = "log-stalled"
FLUSH_STALLED = "flush-stalled"
WORKER_STALLED = "worker-stalled"
FOLLOWER_LAGGING = "follower-lagging"


class Progress:
    """Counts, once a tick, for how long each word has not moved."""

    def __init__(self, board: Board, reasons: Reasons) -> None:
        self._board = board
        self._reasons = reasons
        self._seen: dict[str, tuple[int | None, int]] = {}

    def sample(self, ready: Sequence[tuple[Role, int]], now: float) -> None:
        """Look at all of them.

        Args:
            ready: role and index of each child that should be at work.
            now: seconds since 1970, for the reasons.
        """
        self._look_at_log(("log", 0) in ready, now)
        self._look_at_flusher(("flush", 0) in ready, now)
        self._look_at_what_is_held(now)
        self._look_at_workers([index for role, index in ready if role == "worker"], now)

    def hung(self, ready: Sequence[tuple[Role, int]]) -> list[str]:
        """Name the children that have given no sign of life for long.

        Args:
            ready: role and index of each child that should be at work; a call a tick.
        """
        return [
            name
            for role, index in ready
            if self._ticks(
                f"life of {(name := name_of(role, index))}",
                self._board.get(role, "heartbeat_ns", index),
                True,
            )
            >= HUNG_TICKS
        ]

    def _look_at_log(self, ready: bool, now: float) -> None:
        durable = self._board.get("durability", "durable_seq")
        accepted = self._board.get("durability", "accepted_seq")
        silent = self._ticks("log", self._board.get("log", "heartbeat_ns"), ready)
        unsynced = self._ticks("durable", durable, ready and accepted > durable)
        self._tell(
            LOG_STALLED, max(silent, unsynced) >= STALLED_TICKS,
            f"no sync has returned, durable seq {durable}" if unsynced >= STALLED_TICKS
            else "the log writer gives no sign of life",
            "look at the disk of the state directory (dmesg, iostat), and whether somebody has"
            " stopped the process", now,
        )  # fmt: skip

    def _look_at_flusher(self, ready: bool, now: float) -> None:
        flushed = self._board.get("follower", "position_seq")
        behind = self._board.get("durability", "durable_seq") > flushed
        # What the flusher says itself is the better reason.
        silent = ready and behind and not self._reasons.told_by("flush")
        ticks = self._ticks("flush", flushed, silent)
        self._tell(
            FLUSH_STALLED, ticks >= FLUSH_STALLED_TICKS,
            f"nothing reaches PostgreSQL, flushed seq {flushed}",
            "look whether PostgreSQL answers, for a lock on certeus.events (pg_stat_activity), and"
            " whether somebody has stopped the flusher", now,
        )  # fmt: skip

    def _look_at_what_is_held(self, now: float) -> None:
        """Tell what a follower costs that has not moved for long, whatever keeps it from moving."""
        flushed = self._board.get("follower", "position_seq")
        behind = self._board.get("durability", "durable_seq") - flushed
        ticks = self._ticks("follower", flushed, behind > 0)
        held = self._board.get("log", "segments") > 1
        size_mib, max_mib = (
            self._board.get("log", name) >> 20 for name in ("log_bytes", "log_bytes_max")
        )
        self._tell(
            FOLLOWER_LAGGING, held and ticks >= LAGGING_TICKS,
            f"postgres has not moved from seq {flushed} for {ticks // 60} minutes: {behind} events"
            f" wait, and the log that is kept for it has {size_mib} of {max_mib} MiB",
            "bring it back (the other reasons say what it lacks); `certeus followers` shows what is"
            " held; at the bound producers wait: raise log.bytes_max if it takes longer", now,
        )  # fmt: skip

    def _look_at_workers(self, ready: Sequence[int], now: float) -> None:
        stalled = [
            index for index in ready
            if self._ticks(f"worker-{index}", self._heartbeat(index), True) >= STALLED_TICKS
        ]  # fmt: skip
        for name in [name for name in self._seen if name.startswith("worker-")]:
            if int(name.removeprefix("worker-")) not in ready:
                del self._seen[name]
        names = ", ".join(f"worker-{index}" for index in stalled)
        self._tell(
            WORKER_STALLED, bool(stalled), f"{names}: no sign of life",
            "its producers wait; look whether somebody has stopped the process, and at the load of"
            " the machine", now,
        )  # fmt: skip

    def _heartbeat(self, index: int) -> int:
        return self._board.get("worker", "heartbeat_ns", index)

    def _ticks(self, name: str, value: int, should_move: bool) -> int:
        """For how many ticks in a row a word has stayed as it was although it should move."""
        before, ticks = self._seen.get(name, (None, 0))
        ticks = ticks + 1 if should_move and before == value else 0
        self._seen[name] = (value, ticks)
        return ticks

    def _tell(self, code: str, stalled: bool, what: str, next: str, now: float) -> None:
        if stalled:
            self._reasons.add(OWNER, code, what, next, now)
        else:
            self._reasons.remove(OWNER, code)
