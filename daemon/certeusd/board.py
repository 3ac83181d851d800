"""The board: one shared page a process, in which it counts, and the durability page.

`daemon/src/board.rs` says what each word means; this is the same memory as words. Pages outlive
the process that counts in them, so counters never go back. Each page has one writer.

Every process of the daemon maps the board at its start, so numpy is imported only by who wants a
histogram: it would be the largest part of the time to the first answer.
"""

import mmap
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from certeusd import _native

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

PAGE_BYTES = 4096
PAGE_WORDS = PAGE_BYTES // 8
BOARD_BYTES = _native.BOARD_PAGES * PAGE_BYTES
HISTOGRAM_WORDS = 64
WORD_MAX = (1 << 64) - 1
WORKERS_MAX = _native.BOARD["api"][0] - _native.BOARD["worker"][0]

HISTOGRAM_SUFFIX = "_buckets_64"


class Board:
    """The mapped board. `fd` is lent for the call; the mapping lives as long as this object."""

    def __init__(self, fd: int) -> None:
        size = os.fstat(fd).st_size
        assert size == BOARD_BYTES, f"the board has {size} bytes, not {BOARD_BYTES}"
        self._memory = mmap.mmap(fd, BOARD_BYTES, flags=mmap.MAP_SHARED)
        self._words = memoryview(self._memory).cast("Q")

    def page(self, table: str, index: int = 0) -> "memoryview[int]":
        """Return the 512 words of a page, shared; `index` is the worker's."""
        first, _ = _native.BOARD[table]
        assert index == 0 or (table == "worker" and 0 <= index < WORKERS_MAX)
        at = (first + index) * PAGE_WORDS
        return self._words[at : at + PAGE_WORDS]

    def get(self, table: str, field: str, index: int = 0) -> int:
        """One word."""
        return self.page(table, index)[_native.BOARD[table][1][field]]

    def set(self, table: str, field: str, value: int, index: int = 0) -> None:
        """Store one word; only the page's own process does that."""
        self.page(table, index)[_native.BOARD[table][1][field]] = value

    def add(self, table: str, field: str, count: int, index: int = 0) -> None:
        """Count on, from 2^64 to 0; only the page's own process does that."""
        page, at = self.page(table, index), _native.BOARD[table][1][field]
        page[at] = (page[at] + count) & WORD_MAX

    def count_dropped_line(self, table: str, index: int = 0) -> None:
        """Count a line that a process of this table could not log; only that process does that."""
        self.add(table, "log_lines_dropped_total", 1, index)

    def observe(self, table: str, field: str, value: int, count: int = 1, index: int = 0) -> None:
        """Count `count` times `value` in a histogram: bucket `b` holds values below `2^b`."""
        assert field.endswith(HISTOGRAM_SUFFIX)
        bucket = min(value.bit_length(), HISTOGRAM_WORDS - 1)
        self.page(table, index)[_native.BOARD[table][1][field] + bucket] += count

    def histogram(self, table: str, field: str, index: int = 0) -> "npt.NDArray[np.uint64]":
        """Copy the 64 counts of a histogram."""
        import numpy as np

        return np.array(self.counts(table, field, index), dtype=np.uint64)

    def counts(self, table: str, field: str, index: int = 0) -> list[int]:
        """Copy the 64 counts of a histogram as plain numbers."""
        at = _native.BOARD[table][1][field]
        return self.page(table, index)[at : at + HISTOGRAM_WORDS].tolist()

    def items(self, table: str, index: int = 0) -> Iterator[tuple[str, int]]:
        """Every plain word of a page by name; histograms are left out."""
        page = self.page(table, index)
        for field, at in _native.BOARD[table][1].items():
            if not field.endswith(HISTOGRAM_SUFFIX):
                yield field, page[at]


def board_fields(table: str) -> dict[str, int]:
    """Where each word of a table's pages lies."""
    return _native.BOARD[table][1]


def histogram_fields(table: str) -> list[str]:
    """Names of the histograms of a table."""
    return [name for name in _native.BOARD[table][1] if name.endswith(HISTOGRAM_SUFFIX)]
