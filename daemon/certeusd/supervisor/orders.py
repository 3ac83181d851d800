"""What operators and admins order of the children: carried out here, asked by the control API."""

import asyncio
import time

from certeusd.channel import AcceptDeadLetters, AcceptGap, AskLetters, Order, Retry
from certeusd.control import types
from certeusd.exits import Exit, ExitError
from certeusd.logs import Module
from certeusd.supervisor.fleet import Fleet
from certeusd.supervisor.slot import Slot
from certeusd.supervisor.state import Reasons

FLUSH_PAUSED = "flush-paused"


class Orders:
    """One child begins anew at a time, so that the others go on meanwhile."""

    def __init__(self, fleet: Fleet, reasons: Reasons) -> None:
        self._fleet = fleet
        self._reasons = reasons
        self._restarting = asyncio.Lock()

    def check_free(self) -> None:
        """Raise ExitError (75) while children are begun anew."""
        if self._restarting.locked():
            raise ExitError(
                Exit.TRY_AGAIN, "a reload or a restart of workers is under way; wait for its end"
            )

    async def restart(self, slots: list[Slot]) -> None:
        """End these children in order, one after the other, and have the next ones ready.

        Raises:
            ExitError: 75 others are at it; a child is not ready again (all have begun anew).
        """
        self.check_free()
        late = list[str]()
        async with self._restarting:
            for slot in slots:
                try:
                    await self._fleet.restart(slot)
                except TimeoutError:
                    late.append(slot.name)
        if late:
            raise ExitError(
                Exit.TRY_AGAIN, f"not ready again yet: {', '.join(late)}; see certeus status"
            )

    async def restart_worker(self, index: int) -> bool:
        """Have a worker begin anew, its producers reconnect; False: there is none of this number.

        Raises:
            ExitError: as `restart`.
        """
        if index >= len(self._fleet.workers):
            return False
        await self.restart([self._fleet.workers[index]])
        return True

    async def pause_flush(self) -> None:
        """Deliver nothing until `resume_flush`, or the next start of the daemon.

        Raises:
            ExitError: 75 children are begun anew just now.
        """
        self.check_free()
        self._reasons.add(
            "supervisor", FLUSH_PAUSED, "an operator has paused the delivery to PostgreSQL;"
            " events stay in the log", "certeus flush resume", time.time(),
        )  # fmt: skip
        await self._fleet.hold(self._fleet.flush)

    def resume_flush(self) -> bool:
        """Deliver again; False: it was not paused."""
        self._reasons.remove("supervisor", FLUSH_PAUSED)
        return self._fleet.release(self._fleet.flush)

    def log_level(self, module: Module, level: str, for_s: float | None) -> None:
        """Log from a level on, for so many seconds; none: until the next start."""
        self._fleet.levels.ask(module, level, for_s)

    def gap(self) -> tuple[int, int] | None:
        """First and last number of the gap at which the flusher is stopped."""
        report = self._fleet.reports.get("gap")
        return types.range_of(report) if report else None

    def accept_gap(self, first_seq: int, last_seq: int) -> None:
        """Tell the flusher, which compares once more."""
        self.tell_flusher(AcceptGap(first_seq, last_seq))

    def accept_dead_letters(self, until_seq: int) -> bool:
        """Tell the flusher; False: there is none now."""
        return self.tell_flusher(AcceptDeadLetters(until_seq))

    def retry(self) -> bool:
        """Tell the flusher; False: there is none now."""
        return self.tell_flusher(Retry())

    async def ask_letters(self, ask: AskLetters) -> bytes:
        """Ask the flusher about dead letters; NoAnswerError: why there is no answer."""
        return await self._fleet.questions.ask(self.tell_flusher, ask)

    def tell_flusher(self, order: Order) -> bool:
        """Send an order, if there is a flusher."""
        child = self._fleet.flush.child
        return child is not None and child.send(order)
