"""The last room on a disk that the log shares with the embedded PostgreSQL is not for batches.

The log stops at its reserve and leaves that to PostgreSQL, so that the log can empty
(`daemon/src/log/room.rs` has the whole order). A server that finds no room for its own log ends in
the middle of it and may not come up again: so nothing is sent from a quarter of the reserve down,
until half of it is free. Housekeeping goes on: a partition that retention drops makes room, and
what PostgreSQL has confirmed lets the log give segments back.
"""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from certeusd.flush.reasons import Reasons
from certeusd.logs import Logger

CODE = "disk-low"
NEXT_STEP = (
    "Make room on the disk of the state directory, or shorten postgres.retention_days; delivery"
    " goes on by itself. New events stay durable in the log meanwhile."
)


class Room:
    """Says whether a batch may go. One task uses it."""

    def __init__(
        self,
        directory: Path,
        reserve_bytes: int,
        reasons: Reasons,
        log: Logger,
        free_bytes: Callable[[Path], int] | None = None,
    ) -> None:
        self._directory = directory
        self._reserve_bytes = reserve_bytes
        self._reasons = reasons
        self._log = log
        self._free_bytes = free_bytes or free_bytes_of
        self._low = False

    def is_low(self) -> bool:
        """Look; once low, half of the reserve has to be free again."""
        free = self._free_bytes(self._directory)
        self._low = free < self._reserve_bytes // (2 if self._low else 4)
        return self._low

    async def wait(self, idle: Callable[[], Awaitable[None]], ended: Callable[[], bool]) -> bool:
        """Wait until there is room, by `idle` again and again; False: `ended` came first."""
        told = False
        while not ended() and self.is_low():
            what = (
                f"less than a quarter of log.disk_reserve_bytes ({self._reserve_bytes >> 20} MiB)"
                " was left on the disk that log and embedded PostgreSQL share: nothing is sent"
            )
            if self._reasons.begin(CODE, what, NEXT_STEP):
                self._log.error("flush_paused", reserve_bytes=self._reserve_bytes)
            told = True
            await idle()
        if told and not ended():
            self._log.info("flush_resumed")
        self._reasons.end(CODE)
        return not ended()


def free_bytes_of(directory: Path) -> int:
    """Bytes that an ordinary user may still take."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


def shared_reserve_bytes(state_dir: Path, reserve_bytes: int, dsn: str) -> int:
    """Return the reserve that counts: none for a server that is elsewhere, or on another disk."""
    postgres_dir = state_dir / "postgres"
    if dsn or not postgres_dir.exists():
        return 0
    same = postgres_dir.stat().st_dev == (state_dir / "log").stat().st_dev
    return reserve_bytes if same else 0
