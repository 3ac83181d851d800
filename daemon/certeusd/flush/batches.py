"""What is delivered next: batches out of the log, read in a thread, in order.

A batch that was taken can be put back, and is then the next one again. Whoever takes one waits for
its thread even when cancelled: the thread uses the reader.
"""

import asyncio
from collections.abc import Callable

from certeusd._native import FollowerPage
from certeusd.flush import gate
from certeusd.flush.errors import reading_the_log
from certeusd.flush.gate import Gate
from certeusd.flush.position import Position
from certeusd.flush.reasons import Reasons
from certeusd.log.reader import Batch, LogReader


class Batches:
    """The log from a position on. One task at a time takes from it; all are lent for its life."""

    def __init__(
        self,
        reader: LogReader,
        page: FollowerPage,
        gate: Gate,
        reasons: Reasons,
        limits: Callable[[], tuple[int, int]],
    ) -> None:
        self._reader = reader
        self._page = page
        self._gate = gate
        self._reasons = reasons
        self._limits = limits
        self._next: Batch | None = None

    def begin(self, position: Position) -> None:
        """Go on behind `position`."""
        self._reader.seek(position.group, position.seq, position.root)
        self._next = None

    def put_back(self, batch: Batch) -> None:
        """Let the batch that was taken last be the next one."""
        self._next = batch

    def is_more_than(self, rows: int, behind: Batch) -> bool:
        """Whether more than so many rows are durable behind a batch."""
        return self._page.durable_seq() > behind.last_seq + rows

    async def take(self) -> Batch | None:
        """Return the next batch, at most the rows and bytes of `limits`; `None`: not yet."""
        batch, self._next = self._next, None
        durable_seq = self._page.durable_seq()
        if batch is not None or durable_seq < self._reader.next_seq:
            return batch

        rows_max, bytes_max = self._limits()

        def read() -> Batch | None:
            with reading_the_log():
                return self._reader.next_batch(durable_seq, rows_max, bytes_max)

        reading = asyncio.ensure_future(asyncio.to_thread(read))
        try:
            batch = await asyncio.shield(reading)
        finally:
            await asyncio.wait({reading})
        if batch is None and self._reader.stalled is not None:
            segment_no, offset = self._reader.stalled
            self._reasons.begin(
                "log-gap",
                f"durable events behind offset {offset} of segment {segment_no} cannot be read",
                "Run `certeus log check`; the gap is named as soon as the log goes on behind it.",
            )
        elif batch is not None and gate.stop_of(batch.gaps) is None:
            self._gate.clear()
            self._reasons.end(gate.CODE_LOG_GAP)
        return batch
