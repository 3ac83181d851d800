"""Where the follower stops for a human: numbers that the log does not hold any more.

A gap is shown with its exact range, and only that very range can be accepted: an acceptance that
comes late, or that was meant for another gap, opens nothing.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from certeusd.channel import Message, Report

CODE_LOG_GAP = "log-gap"
CODE_BEHIND_LOG = "behind-log"
PASSES = ("unknown-kind",)
"""Numbers that this version was told to skip: they are named, and nothing of ours is lost."""


class Gap(NamedTuple):
    """First and last missing number, and why they are missing."""

    code: str
    first_seq: int
    last_seq: int
    reason: str

    def __str__(self) -> str:
        return f"{self.first_seq}..{self.last_seq}"


def stop_of(gaps: Sequence[tuple[int, int, str]]) -> Gap | None:
    """Return what to stop at, of the gaps of one batch."""
    lost = [gap for gap in gaps if gap[2] not in PASSES]
    if not lost:
        return None
    return Gap(CODE_LOG_GAP, lost[0][0], lost[-1][1], lost[0][2])


class Gate:
    """Shut at a gap until that gap is accepted."""

    def __init__(self, tell: Callable[[Message], object]) -> None:
        self._tell = tell
        self._shown: Gap | None = None
        self._accepted = False

    def show(self, gap: Gap) -> bool:
        """Stop at a gap; an acceptance of any other is void. Returns whether this gap is new."""
        if gap == self._shown:
            return False
        self._shown, self._accepted = gap, False
        self._tell(Report("gap", gap._asdict()))
        return True

    def accept(self, first_seq: int, last_seq: int) -> bool:
        """Take an admin's word; False if it is not for the gap that is shown."""
        shown = self._shown
        if shown is None or (shown.first_seq, shown.last_seq) != (first_seq, last_seq):
            return False
        self._accepted = True
        return True

    @property
    def is_open(self) -> bool:
        """Whether the shown gap is accepted."""
        return self._accepted

    def is_accepted(self, gap: Gap) -> bool:
        """Whether this very gap was shown and then accepted."""
        return self._accepted and gap == self._shown

    def clear(self) -> None:
        """There is no gap any more: written off, or what was missing is back."""
        if self._shown is not None:
            self._shown, self._accepted = None, False
            self._tell(Report("gap", {}))
