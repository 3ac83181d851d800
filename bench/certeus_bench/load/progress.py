"""One page that all producers of a load share with whoever watches it: a row of numbers each.

A row has one writer, so a sum over rows is at most a turn old and never torn within a number.
"""

import mmap
from enum import IntEnum
from pathlib import Path

import numpy as np

from certeus_bench.load.profile import PRODUCERS_MAX
from certeus_bench.load.schedule import Numbers


class Word(IntEnum):
    """Columns."""

    PID = 0
    DUE = 1
    SENT = 2
    SETTLED = 3
    RING_FULL_NS = 4
    """So long events were due and had no room."""
    RING_USED_BYTES = 5


ROWS = 1 + PRODUCERS_MAX
"""The first is the watcher's: not 0 in its first word ends the load."""
SIZE_BYTES = ROWS * len(Word) * 8


class Page:
    """The mapped page; `make` it first."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            memory = mmap.mmap(file.fileno(), SIZE_BYTES)
        self.rows: Numbers = np.frombuffer(memory, dtype=np.int64).reshape(ROWS, len(Word))

    @staticmethod
    def make(path: Path) -> "Page":
        """A new one, of zeros."""
        path.write_bytes(bytes(SIZE_BYTES))
        return Page(path)

    def row(self, worker: int) -> Numbers:
        """The numbers of one producer, shared."""
        row: Numbers = self.rows[1 + worker]
        return row

    def total(self, word: Word) -> int:
        """The sum over all producers."""
        return int(self.rows[1:, word].sum())

    def largest(self, word: Word) -> int:
        """The largest of all producers."""
        return int(self.rows[1:, word].max())

    def stop(self) -> None:
        """Have producers offer nothing any more."""
        self.rows[0, 0] = 1

    def is_stopped(self) -> bool:
        """Whether they should."""
        return bool(self.rows[0, 0])
