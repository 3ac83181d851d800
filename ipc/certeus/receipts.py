"""What became of each ticket: runs of the last 64 K, counts of all, rejections not yet told."""

from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from certeus.errors import RejectedError, Rejection

RECEIPTS_KEPT = 65_536
REJECTIONS_KEPT = 4096
TICKET_MAX = 1 << 63


class Verdict(StrEnum):
    """The outcome of one event; the same words everywhere."""

    ACCEPTED = "accepted"
    """Durable, has a ``seq``."""
    ESCALATED = "escalated"
    """Durable, has a ``seq``, wants a human."""
    DUPLICATE = "duplicate"
    """The same event is already there, under the ``seq`` told."""
    REJECTED = "rejected"
    """Refused, with a reason; nothing was stored."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one ticket."""

    log_id: str
    """The log that it is in: a UUID."""
    seq: int
    """Its own number in the log; a duplicate's original; 0 for most rejections."""
    group: int
    """The group that made it durable; 0 when there is none."""
    verdict: Verdict
    reason: str
    """A stable word for a rejection, else empty."""

    def moved(self, offset: int) -> "Receipt":
        """Return that of the ticket so many behind, of the same run."""
        if offset == 0:
            return self
        return Receipt(self.log_id, self.seq + offset, self.group, self.verdict, self.reason)


class Entry(NamedTuple):
    """``length`` tickets from ``ticket`` on, with one verdict and consecutive ``seq``."""

    ticket: int
    length: int
    seq: int
    group: int
    verdict: str
    reason: str


_END = (TICKET_MAX, 0, Receipt("", 0, 0, Verdict.ACCEPTED, ""))
"""Stands behind the last run."""


class Receipts:
    """Verdicts of one producer, in ticket order, each counted once. Not locked."""

    def __init__(self, kept: int = RECEIPTS_KEPT) -> None:
        self.settled = 0
        self.needed = TICKET_MAX
        """From this ticket on nothing is forgotten, however old it is."""
        self._forgotten = 0
        self._kept = kept
        self.escalated = 0
        self.duplicates = 0
        self.rejected = 0
        self._runs: list[tuple[int, int, Receipt]] = []  # first ticket, count, the first's receipt
        self._mark = 0
        self._untold: list[Rejection] = []
        self._untold_count = 0

    @property
    def accepted(self) -> int:
        """All that was settled and is nothing else; runs of them may be told by the mark alone."""
        return self.settled - self.escalated - self.duplicates - self.rejected

    def record(self, log_id: str, settled: int, entries: Iterable[Entry]) -> None:
        """Take what one drain gave. What is known already, from before a resume, is skipped."""
        for entry in entries:
            skip = max(self._mark + 1 - entry.ticket, 0)
            if skip >= entry.length:
                continue
            if skip:
                seq = entry.seq + skip
                entry = entry._replace(ticket=self._mark + 1, length=entry.length - skip, seq=seq)
            self._take(log_id, entry)
            self._mark = entry.ticket + entry.length - 1
        self._mark = max(self._mark, settled)
        self.settled = max(self.settled, settled)
        self._forget()

    def find(self, ticket: int) -> Receipt | None:
        """Find the receipt of a ticket, if it is out and still kept."""
        index = bisect_right(self._runs, ticket, key=lambda run: run[0]) - 1
        if index < 0:
            return None
        first, count, receipt = self._runs[index]
        offset = ticket - first
        if offset >= count:
            return None
        return receipt.moved(offset)

    def runs(self, first: int, last: int) -> Iterator[tuple[int, Receipt | None]]:
        """Yield runs of settled tickets in order: how many, and what became of the first of them.

        The others of a run have consecutive ``seq``. None: accepted, and the receipt was never
        given, because the verdict ring was full.

        Raises:
            LookupError: receipts of some of them are no longer kept; these may be rejections.
        """
        if first <= self._forgotten:
            raise LookupError(f"receipts up to that of ticket {self._forgotten} are not kept")
        index = max(bisect_right(self._runs, first, key=lambda run: run[0]) - 1, 0)
        ticket = first
        while ticket <= last:
            start, count, receipt = self._runs[index] if index < len(self._runs) else _END
            if start > ticket:
                end = min(start - 1, last)
                yield end - ticket + 1, None
                ticket = end + 1
            elif start + count > ticket:
                end = min(start + count - 1, last)
                yield end - ticket + 1, receipt.moved(ticket - start)
                ticket = end + 1
            else:
                index += 1

    def tell_rejections(self, up_to: int) -> RejectedError | None:
        """Return the rejections up to this ticket that were not told before; they are now."""
        listed = tuple(rejection for rejection in self._untold if rejection.ticket <= up_to)
        if not listed:
            return None
        del self._untold[: len(listed)]
        # Beyond the bound only a count is left, which is told with the last of those listed.
        count = len(listed) if self._untold else self._untold_count
        self._untold_count -= count
        return RejectedError(listed, count)

    def _take(self, log_id: str, entry: Entry) -> None:
        verdict = Verdict(entry.verdict)
        if verdict is Verdict.ESCALATED:
            self.escalated += entry.length
        elif verdict is Verdict.DUPLICATE:
            self.duplicates += entry.length
        elif verdict is Verdict.REJECTED:
            self.rejected += entry.length
            self._untold_count += 1
            if len(self._untold) < REJECTIONS_KEPT:
                self._untold.append(Rejection(entry.ticket, entry.reason, entry.seq))
        receipt = Receipt(log_id, entry.seq, entry.group, verdict, entry.reason)
        insort(self._runs, (entry.ticket, entry.length, receipt), key=lambda run: run[0])

    def _forget(self) -> None:
        oldest = min(self._mark - self._kept, self.needed - 1)
        # Many at a time: deleting from the front of a list moves the rest.
        if self._runs and self._runs[len(self._runs) // 2][0] <= oldest:
            gone = bisect_right(self._runs, oldest, key=lambda run: run[0]) - 1
            if gone > 0:
                last, count, _ = self._runs[gone - 1]
                self._forgotten = last + count - 1
                del self._runs[:gone]
