"""The breaker at work: the clock, chance, the board's counters, and who waits for its pause.

What it may do stands in `breaker`; here is what follows when it does it.
"""

import asyncio
import time
from collections.abc import Callable, Mapping

from certeusd.board import Board
from certeusd.channel import Message, Report
from certeusd.flush.breaker import Breaker, Cause, Event, Pause, State, transition
from certeusd.logs import Logger

DESTINATION = "postgres"
_WORDS = {State.CLOSED: 1, State.OPEN: 2, State.HALF_OPEN: 3}
"""What `breaker_state` on the board means; 0: there is no flusher."""
HEARTBEAT_S = 1.0


class Guard:
    """Stands before the destination. One task uses it."""

    def __init__(
        self,
        board: Board,
        tell: Callable[[Message], object],
        log: Logger,
        pauses: Mapping[Cause, Pause],
        chance: Callable[[], float],
    ) -> None:
        self._board = board
        self._tell = tell
        self._log = log
        self._pauses = pauses
        self._chance = chance
        self._asked = asyncio.Event()
        self._breaker = Breaker.start(time.monotonic())

    @property
    def breaker(self) -> Breaker:
        """As it is now."""
        return self._breaker

    @property
    def is_probing(self) -> bool:
        """Whether only a small batch may go."""
        return self._breaker.state is State.HALF_OPEN

    def failed(self, cause: Cause) -> None:
        """Open it: an attempt came to nothing."""
        pause = self._pauses.get(cause)
        self._asked.clear()
        self._move(Event.FAILED, cause, pause)

    def delivered(self) -> None:
        """Close it, if it was half-open."""
        if self._breaker.state is State.HALF_OPEN:
            self._move(Event.DELIVERED)

    def retry(self) -> bool:
        """End the pause, whatever the cause; returns whether there was one."""
        self._asked.set()
        return self._breaker.state is State.OPEN

    async def pass_through(self, draining: asyncio.Event) -> bool:
        """Wait until an attempt may be made; False: `draining` came first."""
        while self._breaker.state is State.OPEN and not draining.is_set():
            now = time.monotonic()
            if self._breaker.is_due(now) or self._asked.is_set():
                self._move(Event.DUE)
                break
            at = self._breaker.next_attempt_at
            wait_s = HEARTBEAT_S if at is None else min(HEARTBEAT_S, max(at - now, 0.0))
            await _first_of(wait_s, draining, self._asked)
            self._board.set("flush", "heartbeat_ns", time.monotonic_ns())
        return not draining.is_set()

    def _move(self, event: Event, cause: Cause | None = None, pause: Pause | None = None) -> None:
        old = self._breaker
        self._breaker = transition(old, event, time.monotonic(), cause, pause, self._chance())
        new = self._breaker.state
        self._board.add("flush", f"breaker_{new.replace('-', '_')}_total", 1)
        self.show()
        # One line an edge: an outage is told when it begins and when it ends.
        if State.CLOSED in (old.state, new):
            self._log.info("breaker_moved", old=str(old.state), new=str(new), cause=cause)

    def show(self) -> None:
        """Tell how it stands, on the board and in a report."""
        breaker = self._breaker
        self._board.set("flush", "breaker_state", _WORDS[breaker.state])
        self._board.set("flush", "breaker_failures", breaker.failures)
        wall = time.time() - time.monotonic()
        at = breaker.next_attempt_at
        facts: dict[str, object] = {
            "destination": DESTINATION,
            "state": str(breaker.state),
            "since": wall + breaker.since,
            "failures": breaker.failures,
            "cause": None if breaker.cause is None else str(breaker.cause),
            "next_attempt_at": None if at is None else wall + at,
        }
        self._tell(Report("breaker", facts))


async def _first_of(timeout_s: float, *events: asyncio.Event) -> None:
    waits = {asyncio.ensure_future(event.wait()) for event in events}
    try:
        await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
