"""What became of the events of one request: runs of them, by their index in it.

```text
encoder: refused ─┐
                  ├─▶ pieces, in the order of the events ──settled──▶ runs ──▶ the answer
ring: tickets ────┘
```

Events in a row with one verdict are one run, so that an answer about a million events is short.
What is settled is taken as soon as it is drained, whoever drained it, while the rest of the body is
still read: the ledger holds nothing of an event but its place in a run. A verdict that is not known
is never guessed: its event stays pending.
"""

from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

import msgspec

from certeus.receipts import Receipt, Verdict
from certeusd.api.refusals import Refusal
from certeusd.door import Door

RUNS_MAX = 65_536
STEP = 4096
"""So many runs at a time; then others have their turn."""


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
    """Taken, and not known to be decided: with `wait=none`, or when the time was over."""
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

    def behind(self, count: int) -> "_Piece":
        """Return it without its first ones."""
        ticket = self.ticket and self.ticket + count
        return _Piece(self.first + count, self.length - count, ticket, self.reason)


class Verdicts:
    """Collects the verdicts of one request: a `door.Taker`."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._pieces: deque[_Piece] = deque()
        self._refusals: deque[Refusal] = deque()
        self._runs: list[Run] = []
        self._counts = dict.fromkeys(Verdict, 0)
        self._last_seq: int | None = None
        self._complete = True
        self.seen = 0
        """Events so far."""
        self._begun = 0
        self.last_ticket = 0
        """The last that one of them got."""

    @property
    def rejected(self) -> int:
        """How many were refused or rejected, of those that are decided."""
        return self._counts[Verdict.REJECTED]

    @property
    def pending(self) -> int:
        """How many are not decided, or their verdicts are not known any more."""
        return self.seen - sum(self._counts.values())

    @property
    def pieces(self) -> int:
        """How many runs of events wait for their verdicts."""
        return len(self._pieces)

    @property
    def first_untaken(self) -> int | None:
        """The first ticket whose verdict was not taken."""
        return next((piece.ticket for piece in self._pieces if piece.ticket), None)

    def begin(self, refused: Iterable[Refusal]) -> None:
        """Begin a part; `refused`: ascending, by their index in it."""
        self._refusals.extend(refused)
        self._begun = self.seen

    def appended(self, tickets: range) -> None:
        """Note tickets of the part: of those of its events, in order, that were not refused."""
        ticket = tickets.start
        while ticket < tickets.stop:
            self._refuse()
            length = tickets.stop - ticket
            if self._refusals:
                length = min(length, self._begun + self._refusals[0].first - self.seen)
            self._add(_Piece(self.seen, length, ticket, ""))
            ticket += length
        self.last_ticket = tickets[-1]

    def end(self) -> None:
        """End the part: what was refused before an event that found no room is decided, too."""
        self._refuse()
        self._refusals.clear()

    def _refuse(self) -> None:
        """Note refusals that come next."""
        while self._refusals and self._begun + self._refusals[0].first == self.seen:
            refusal = self._refusals.popleft()
            self._add(_Piece(self.seen, refusal.length, 0, refusal.reason))

    def _add(self, piece: _Piece) -> None:
        self.seen += piece.length
        last = self._pieces[-1] if self._pieces else None
        if last and not piece.ticket and not last.ticket and last.reason == piece.reason:
            self._pieces[-1] = last._replace(length=last.length + piece.length)
        else:
            self._pieces.append(piece)

    def take(self) -> bool:
        """Take verdicts that are out, some thousands of runs; whether there are more."""
        left = STEP
        while self._pieces:
            piece = self._pieces[0]
            ready = piece.length
            if piece.ticket:
                ready = min(ready, self._door.settled_ticket - piece.ticket + 1)
            if ready <= 0:
                return False
            if left <= 0:
                return True
            if piece.ticket:
                ready, runs = self._settled(piece, ready, left)
                left -= runs
            else:
                self._run(Run(piece.first, ready, Verdict.REJECTED, None, piece.reason))
                left -= 1
            if ready < piece.length:
                self._pieces[0] = piece.behind(ready)
            else:
                self._pieces.popleft()
        return False

    def _settled(self, piece: _Piece, ready: int, runs_max: int) -> tuple[int, int]:
        """Take so many of a piece, but no more runs than that; how many events and runs."""
        done = runs = 0
        tickets = range(piece.ticket, piece.ticket + ready)
        try:
            for length, receipt in islice(self._door.runs(tickets), runs_max):
                self._decided(piece.first + done, length, receipt)
                done += length
                runs += 1
        except LookupError:  # They stay pending: nobody knows whether they were rejected.
            return ready, 1
        return done, runs

    def _decided(self, index: int, length: int, receipt: Receipt | None) -> None:
        if receipt is None:
            self._run(Run(index, length, Verdict.ACCEPTED))
            return
        seq = receipt.seq or None
        self._run(Run(index, length, receipt.verdict, seq, receipt.reason))
        if seq and receipt.verdict in (Verdict.ACCEPTED, Verdict.ESCALATED):
            self._last_seq = seq + length - 1

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
            pending=self.pending,
            last_seq=self._last_seq,
            verdicts=self._runs,
            complete=self._complete,
        )
