"""What a producer process of a soak knows, in a file that survives its death.

```text
page     GRANTED | STOP                                     the harness tells all producers
life.N   INTENDED APPENDED SETTLED STATE RESENT_FROM ...    one file a producer process
         told[N] u8 | verdict[N] u8 | seq[N] u64                 by ticket
```

Each word is written by one process, after what it speaks of: whoever reads ``settled`` also finds
the verdicts up to it. The pages stay when their writer is killed.
"""

import mmap
import struct
from enum import IntEnum
from pathlib import Path
from typing import Self

TICKETS_MAX = 1 << 17
WORDS = 16
WORD = struct.Struct("=Q")
TOLD_AT = 4096
VERDICT_AT = TOLD_AT + TICKETS_MAX
SEQ_AT = VERDICT_AT + TICKETS_MAX
LIFE_BYTES = SEQ_AT + 8 * TICKETS_MAX
PAGE_BYTES = 4096


class Field(IntEnum):
    """The words of either kind of file."""

    INTENDED = 0
    """Events that were or may have been appended."""
    APPENDED = 1
    SETTLED = 2
    STATE = 3
    RESENT_FROM = 4
    """The predecessor's events that the first tickets offer again; 0: none."""
    RESENT_TO = 5
    RECONNECTS = 6
    BASE = 7
    """What was granted before this life began."""
    GRANTED = 8
    """Events that each producer may have appended, over all its lives."""
    STOP = 9


class State(IntEnum):
    """How far a life is."""

    STARTING = 0
    LIVE = 1
    CLOSED = 2


class Told(IntEnum):
    """The verdicts, as a byte; 0: none was told."""

    ACCEPTED = 1
    DUPLICATE = 2
    REJECTED = 3
    ACCEPTED_WITHOUT_RECEIPT = 4
    """Accepted; the receipt was left out, as it is when the verdict ring is full."""


class Shared:
    """A file of words, mapped."""

    def __init__(self, path: Path, size: int) -> None:
        with path.open("a+b") as file:
            file.truncate(size)
            self.memory = mmap.mmap(file.fileno(), size)

    def get(self, field: Field) -> int:
        (value,) = WORD.unpack_from(self.memory, field * 8)
        return int(value)

    def set(self, field: Field, value: int) -> None:
        WORD.pack_into(self.memory, field * 8, value)

    def close(self) -> None:
        self.memory.close()

    @classmethod
    def page(cls, folder: Path) -> Self:
        """The harness's words to all producers."""
        return cls(folder / "page", PAGE_BYTES)


class LifePage(Shared):
    """One producer process, by its life's number."""

    def __init__(self, folder: Path, life: int) -> None:
        super().__init__(folder / f"life.{life}", LIFE_BYTES)

    def verdict(self, ticket: int) -> int:
        return self.memory[VERDICT_AT + ticket]

    def seq(self, ticket: int) -> int:
        (value,) = WORD.unpack_from(self.memory, SEQ_AT + 8 * ticket)
        return int(value)

    def told(self, ticket: int) -> int:
        return self.memory[TOLD_AT + ticket]

    def note(self, ticket: int, verdict: Told, seq: int) -> None:
        WORD.pack_into(self.memory, SEQ_AT + 8 * ticket, seq)
        self.memory[VERDICT_AT + ticket] = verdict

    def tell(self, ticket: int) -> None:
        """Count one telling of a rejection."""
        self.memory[TOLD_AT + ticket] += 1

    def in_flight(self) -> int:
        return self.get(Field.APPENDED) - self.get(Field.SETTLED)
