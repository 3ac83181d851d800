"""When a dead child is started again: at once, then 10 ms doubling to 1 s, reset by progress.

A life that made progress (a group committed, a batch flushed, a session served) starts the count
anew, so a child that is killed now and then comes back at once, for ever. Only lives without
progress count towards `crash-loop`, and even then there is one more try each second: it is a reason
in the status, never a decision to give up.
"""

FIRST_S = 0.010
LAST_S = 1.0
DOUBLINGS_MAX = 7
"""More would pass `LAST_S`."""
CRASH_LOOP_LIVES = 5


class Backoff:
    """Deaths of one child; pure, time is the caller's."""

    def __init__(self) -> None:
        self.lives_without_progress = 0
        self.restarts = 0
        self._progressed = False

    def progress(self) -> None:
        """Note that this life has done something useful."""
        self._progressed = True
        self.lives_without_progress = 0

    def died(self) -> float:
        """Note a death, and return the seconds to wait before the next life."""
        self.restarts += 1
        if self._progressed:
            self._progressed = False
            self.lives_without_progress = 0
            return 0.0
        self.lives_without_progress += 1
        if self.lives_without_progress == 1:
            return 0.0
        doublings = min(self.lives_without_progress - 2, DOUBLINGS_MAX)
        return min(LAST_S, FIRST_S * (1 << doublings))

    @property
    def crash_loop(self) -> bool:
        """Whether several lives in a row have ended without progress."""
        return self.lives_without_progress >= CRASH_LOOP_LIVES
