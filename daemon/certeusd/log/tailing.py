"""Following the log from a number on: what the command line and the API print of it.

A `Tailing` reads when it is told to, up to the durable seq that it is given, and waits for nothing:
who polls it, and when, is the caller's. It keeps the segment that it reads open, so a caller that
stops reading for long lets go of it with `release`; what was trimmed meanwhile is a gap.
"""

from os import PathLike
from typing import Literal

from certeusd.log.reader import Batch, Filter, LogReader, Rendered

BATCH_ROWS_MAX = 4096
BATCH_BYTES_MAX = 4 * 1024 * 1024
RENDERED_BYTES_MAX = 1024 * 1024

Form = Literal["lines", "events", "sse"]


class Tailing:
    """Reads the events behind `after_seq` that `wanted` takes. One thread at a time.

    Args:
        log_dir: of the segments; it need not be there yet.
        wanted: which events.
        after_seq: the last number that is not wanted; 0: from the first.
        form: of what `read` returns.
        versioned: whether each line has `schema_version`.
        gaps: whether gaps stand in the text; they are always in `Rendered.gaps`.
    """

    def __init__(
        self,
        log_dir: str | PathLike[str],
        wanted: Filter,
        after_seq: int,
        *,
        form: Form = "lines",
        versioned: bool = False,
        gaps: bool = True,
    ) -> None:
        self._reader = LogReader(log_dir)
        self._reader.seek_seq(after_seq)
        self._after_seq = after_seq
        self._wanted = wanted
        self._form: Form = form
        self._versioned = versioned
        self._gaps = gaps
        self._batch: Batch | None = None

    @property
    def after_seq(self) -> int:
        """The last number that was looked at; another Tailing can go on behind it."""
        return self._after_seq

    def read(
        self,
        durable_seq: int,
        *,
        until_seq: int | None = None,
        limit: int | None = None,
        bytes_max: int = RENDERED_BYTES_MAX,
    ) -> Rendered | None:
        """Render the next part, of one batch at most; it may be without events.

        Args:
            durable_seq: nothing beyond it is read.
            until_seq: nothing beyond it is told; a group that reaches further is read whole.
            limit: events, at least 1.
            bytes_max: kept but for one event that is larger by itself.

        Returns:
            `None`: there is nothing more now.

        Raises:
            OSError: a file cannot be read; trying again is safe, nothing was passed over.
            ValueError: the log holds what this version cannot read.
        """
        if until_seq is not None and self._after_seq >= until_seq:
            return None
        if self._batch is None:
            self._batch = self._reader.next_batch(durable_seq, BATCH_ROWS_MAX, BATCH_BYTES_MAX)
        if self._batch is None:
            return None
        told = self._batch.render(
            self._wanted,
            self._form,
            after_seq=self._after_seq,
            until_seq=until_seq,
            limit=limit,
            bytes_max=bytes_max,
            versioned=self._versioned,
            gaps=self._gaps,
        )
        self._after_seq = told.last_seq
        if self._after_seq >= self._batch.last_seq:
            self._batch = None
        return told

    def release(self) -> None:
        """Let go of the segment and of what was read ahead; the next `read` finds the place."""
        self._batch = None
        self._reader.seek_seq(self._after_seq)
