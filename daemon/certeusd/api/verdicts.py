"""What became of the events of one request: runs of them, by their index in it.

```text
encoder: refused ─┐
                  ├─▶ pieces, in the order of the events ──settled──▶ runs ──▶ the answer
ring: tickets ────┘
```

Events in a row with one verdict are one run, so that an answer about a million events is short.
What is settled is taken while the rest of the body is still read: the ledger holds nothing of an
event but its place in a run.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from certeus.receipts import Verdict
from certeusd.door import Door

RUNS_MAX = 65_536


class Run(msgspec.Struct, frozen=True, omit_defaults=True):
    """Events `index` to `index + count - 1`; the one at `index + i` has `seq + i`."""

    index: int
    count: int
    verdict: str
    seq: int | None = None
    """Its own; a duplicate's original."""
    reason: str = ""
    """Stable word of a rejection."""

    def continues(self, before: "Run") -> bool:
        """Whether both are one run."""
        if (self.verdict, self.reason) != (before.verdict, before.reason):
            return False
        if self.index != before.index + before.count:
            return False
        if self.seq is None or before.seq is None:
            return self.seq is before.seq
        return self.seq == before.seq + before.count


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The answer."""

    schema_version: int = 1
    events: int
    accepted: int
    escalated: int
    duplicates: int
    rejected: int
    pending: int
    """Taken, and not decided yet: with `wait=none`, or when the time was over."""
    last_seq: int | None
    """The highest that was given to one of these events."""
    verdicts: list[Run]
    complete: bool
    """Whether `verdicts` has a run for each event; beyond 65,536 runs only the counts go on."""


class _Piece(NamedTuple):
    """Events in a row that went the same way."""

    first: int
    length: int
    ticket: int
    """Of the first; 0: they were refused."""
    reason: str


class Verdicts:
    """Collects the verdicts of one request."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._pieces: deque[_Piece] = deque()
        self._runs: list[Run] = []
        self._counts = dict.fromkeys(Verdict, 0)
        self._last_seq: int | None = None
        self._complete = True
        self.seen = 0
        """Events so far."""
        self.last_ticket = 0
        """The last that one of them got."""

    @property
    def rejected(self) -> int:
        """How many were refused or rejected, of those that are decided."""
        return self._counts[Verdict.REJECTED]

    def add(self, seen: int, refused: Sequence[tuple[int, str]], tickets: range) -> None:
        """Note a block.

        Args:
            seen: events in it.
            refused: index in the block and reason, ascending.
            tickets: of the others, in order; fewer than there are: the rest was not appended.
        """
        at, ticket = 0, tickets.start
        for index, reason in (*refused, (seen, "")):
            taken = min(index - at, tickets.stop - ticket)
            if taken:
                self._pieces.append(_Piece(self.seen + at, taken, ticket, ""))
                ticket += taken
            if taken < index - at:
                seen = at + taken
                break
            if index < seen:
                self._pieces.append(_Piece(self.seen + index, 1, 0, reason))
            at = index + 1
        self.seen += seen
        if tickets:
            self.last_ticket = tickets[-1]
        self.take()

    def take(self) -> None:
        """Take the verdicts that are out."""
        while self._pieces:
            piece = self._pieces[0]
            if not piece.ticket:
                self._run(Run(piece.first, piece.length, Verdict.REJECTED, None, piece.reason))
            elif piece.ticket + piece.length - 1 <= self._door.settled_ticket:
                self._settled(piece)
            else:
                return
            self._pieces.popleft()

    def _settled(self, piece: _Piece) -> None:
        index = piece.first
        for length, receipt in self._door.runs(range(piece.ticket, piece.ticket + piece.length)):
            if receipt is None:
                self._run(Run(index, length, Verdict.ACCEPTED))
            else:
                seq = receipt.seq or None
                self._run(Run(index, length, receipt.verdict, seq, receipt.reason))
                if seq and receipt.verdict in (Verdict.ACCEPTED, Verdict.ESCALATED):
                    self._last_seq = seq + length - 1
            index += length

    def _run(self, run: Run) -> None:
        self._counts[Verdict(run.verdict)] += run.count
        if self._runs and run.continues(self._runs[-1]):
            before = self._runs[-1]
            self._runs[-1] = msgspec.structs.replace(before, count=before.count + run.count)
        elif len(self._runs) < RUNS_MAX:
            self._runs.append(run)
        else:
            self._complete = False

    def summary(self) -> Summary:
        """Return all that is decided."""
        return Summary(
            events=self.seen,
            accepted=self._counts[Verdict.ACCEPTED],
            escalated=self._counts[Verdict.ESCALATED],
            duplicates=self._counts[Verdict.DUPLICATE],
            rejected=self._counts[Verdict.REJECTED],
            pending=self.seen - sum(self._counts.values()),
            last_seq=self._last_seq,
            verdicts=self._runs,
            complete=self._complete,
        )
