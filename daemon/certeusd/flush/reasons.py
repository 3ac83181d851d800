"""Reasons for `degraded`: told once when they begin, once when they end, again when they change."""

from collections.abc import Callable

from certeusd.channel import Message, State


class Reasons:
    """What is wrong at the moment, by its code."""

    def __init__(self, tell: Callable[[Message], object]) -> None:
        self._tell = tell
        self._active: dict[str, str] = {}
        self._told: set[str] = set()

    def begin(self, code: str, what: str, next_step: str) -> bool:
        """Tell of a reason. Returns whether it is news."""
        if self._active.get(code) == what:
            return False
        self._active[code] = what
        self._told.add(code)
        self._tell(State(code=code, what=what, next=next_step))
        return True

    def is_active(self, code: str) -> bool:
        """Whether this life has begun the reason and not ended it."""
        return code in self._active

    def end(self, code: str) -> None:
        """Tell that a reason is gone, if it was there; a life before this one may have told it."""
        if self._active.pop(code, None) is not None or code not in self._told:
            self._told.add(code)
            self._tell(State(code=code, active=False))
