"""What can go wrong, as the caller sees it. Every message ends with the next step."""

from typing import NamedTuple


class Error(Exception):
    """Root of all errors of this package.

    ``last_ticket`` is set on whatever an ``append_many`` raises (also on ``TypeError`` and
    ``ValueError``): the last ticket that this call appended, or the one before the call.
    """

    last_ticket: int = 0


class ConnectError(Error):
    """No session with the daemon, and none will come of itself.

    Attributes:
        reason: The daemon's stable word (``uid-not-allowed``, ``source-not-allowed``, ...), or
            ``unreachable`` when no daemon answered.
    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class RingFullError(Error):
    """Back-pressure: the ring has no room. Nothing was written, retrying is safe."""


class Rejection(NamedTuple):
    """One event that the daemon refused. Nothing of it was stored."""

    ticket: int
    reason: str
    """A stable word: ``invalid-json``, ``id-conflict``, ..."""
    seq: int
    """``id-conflict``: the event that has the id. Otherwise 0."""


class RejectedError(Error):
    """Events were rejected. Each rejection is told once.

    Attributes:
        rejections: The oldest ones not told before, at most 4096.
        count: All of them, those that are not listed included.
    """

    def __init__(self, rejections: tuple[Rejection, ...], count: int) -> None:
        first = rejections[0]
        more = f" and {count - 1} more" if count > 1 else ""
        super().__init__(
            f"the daemon rejected ticket {first.ticket} ({first.reason}){more}; correct these "
            "events and append them again"
        )
        self.rejections = rejections
        self.count = count


class InDoubtError(Error):
    """It cannot be known whether these tickets are durable.

    Attributes:
        tickets: Those without a verdict, as a range.
    """

    def __init__(self, message: str, *, tickets: range) -> None:
        super().__init__(message)
        self.tickets = tickets


class ForkedError(Error):
    """The producer belongs to the process that made it, and this is a child of that one."""


class ClosedError(Error):
    """The producer was closed."""
