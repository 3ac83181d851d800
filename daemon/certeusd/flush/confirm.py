"""What the log writer may rely on: the position on the board and in the file, the leave to trim.

Three steps behind PostgreSQL, always in this order: the board's position, the synced file, the
leave to trim. When PostgreSQL itself went back (a failover to a replica that lagged, a restored
backup) the leave is taken back first, before anything is replayed: what the log still holds of it
stays there.
"""

import asyncio
import time
import uuid
from pathlib import Path

from certeusd import _native
from certeusd.board import Board
from certeusd.failpoint import failpoint
from certeusd.flush.position import FOLLOWER, Position, write_file
from certeusd.flush.reasons import Reasons
from certeusd.logs import Logger

FILE_INTERVAL_S = 1.0
CODE = "position-file"


class Confirmations:
    """Publishes positions; `page` and `board` are the same shared memory."""

    def __init__(
        self,
        page: _native.FollowerPage,
        board: Board,
        followers_dir: Path,
        reasons: Reasons,
        log: Logger,
    ) -> None:
        self._page = page
        self._board = board
        self._path = followers_dir / FOLLOWER
        self._reasons = reasons
        self._log = log
        self._unsynced: tuple[uuid.UUID, Position, int] | None = None
        self._synced_at = 0.0
        self._synced_segment = 0

    async def begin(self, log_uuid: uuid.UUID, position: Position) -> None:
        """Publish where PostgreSQL is after a connect; it may be behind what was published."""
        published_seq = self._board.get("follower", "position_seq")
        if position.seq < published_seq:
            self.take_back()
            self._log.warning("position_rewound", published_seq=published_seq, seq=position.seq)
        self.publish(log_uuid, position, segment_no=0)
        if position.seq < published_seq:
            await self.sync(force=True)

    def take_back(self) -> None:
        """Take back the leave to trim: what PostgreSQL may lack again stays in the log."""
        self._page.allow_trim(0)
        self._synced_segment = 0
        self._unsynced = None

    def publish(self, log_uuid: uuid.UUID, position: Position, segment_no: int) -> None:
        """Publish a position; `segment_no` has its last group, 0: not known."""
        failpoint("flush-before-publish")
        self._page.publish(position.seq, position.group)
        self._unsynced = (log_uuid, position, segment_no)
        failpoint("flush-after-publish")

    async def sync(self, force: bool = False) -> None:
        """Write the position file when it is due, and only then allow the log to be trimmed."""
        if self._unsynced is None:
            return
        log_uuid, position, segment_no = self._unsynced
        due = time.monotonic() - self._synced_at >= FILE_INTERVAL_S
        if not (force or due or segment_no > self._synced_segment):
            return
        self._synced_at = time.monotonic()
        try:
            await asyncio.to_thread(write_file, self._path, log_uuid, position)
        except OSError as error:
            # Rows go on; only trimming has to wait.
            next_step = "Make room on the state directory's disk, or correct its permissions."
            self._reasons.begin(CODE, f"cannot write {self._path}: {error}", next_step)
            return
        self._reasons.end(CODE)
        self._unsynced = None
        if segment_no > 0:
            self._synced_segment = segment_no
            self._page.allow_trim(segment_no)
            failpoint("flush-after-allow-trim")
