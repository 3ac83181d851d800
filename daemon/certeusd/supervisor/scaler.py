"""Carries out what the policy decides about the number of workers, one change at a time.

```text
more:   spawn the next one ─▶ ready ─▶ Share to all ─▶ HandOver to the busiest: half of its sessions
                           └▶ not in time: it is ended, and its place waits
fewer:  Share to all but the last ─▶ Drain to the last ─▶ it has ended: its place waits
```

A session that moves is told `draining` when all that it had handed over has its verdict; its
producer connects again, and whoever has fewest takes it. What it has written meanwhile is in its
own ring, and is offered again behind what the log knows.
"""

import asyncio
import time

from certeusd.board import Board
from certeusd.channel import HandOver
from certeusd.config import WorkerSection
from certeusd.control import types
from certeusd.control.types import rfc3339
from certeusd.logs import Logger
from certeusd.supervisor.fleet import Fleet
from certeusd.supervisor.scaling import Change, Load, Policy
from certeusd.supervisor.slot import Slot

AT_THE_START = "since the start"


class Scaler:
    """The number of workers of one fleet."""

    def __init__(
        self,
        fleet: Fleet,
        board: Board,
        policy: Policy,
        section: WorkerSection,
        cpu_count: int,
        logger: Logger,
    ) -> None:
        self._fleet = fleet
        self._board = board
        self._policy = policy
        self._cpu_count = cpu_count
        self._logger = logger
        self._bounds = policy.bounds(section, cpu_count)
        self._why = AT_THE_START
        self._since = time.time()
        self._changes = {"up": 0, "down": 0}
        self._changing: asyncio.Task[None] | None = None

    def configure(self, section: WorkerSection) -> None:
        """Keep to another configuration; the next look does what it asks for."""
        self._bounds = self._policy.bounds(section, self._cpu_count)

    def look(self, *, waits: bool, now: float) -> None:
        """Ask the policy; a call a second.

        Args:
            waits: whether workers wait for the log writer, or the log has no room.
            now: monotonic seconds.
        """
        if self._changing is not None:
            if not self._changing.done():
                return
            self._changing.result()  # A fault of ours must not go unseen.
            self._changing = None
        if self._fleet.draining:
            return
        current = len(self._fleet.workers)
        change = self._policy.decide(current, self._bounds, self._load(waits), now)
        if change is not None and change.workers != current:
            self._changing = asyncio.get_running_loop().create_task(self._change(change))

    def shown(self) -> types.Scaling:
        """Say how many there are, how many there may be, and why."""
        return types.Scaling(
            min=self._bounds.min,
            max=self._bounds.max,
            current=len(self._fleet.workers),
            why=self._why,
            since=rfc3339(self._since),
            ups_total=self._changes["up"],
            downs_total=self._changes["down"],
        )

    def _load(self, waits: bool) -> Load:
        slot = self._busiest()
        active = self._board.get("worker", "active_sessions", slot.index)
        ready = all(one.ready for one in self._fleet.workers)
        return Load(slot.name, slot.measured[0], active, waits, ready)

    def _busiest(self) -> Slot:
        return max(self._fleet.workers, key=lambda slot: slot.measured[0])

    async def _change(self, change: Change) -> None:
        before = len(self._fleet.workers)
        what = {"from": before, "to": change.workers, "why": change.why}
        self._logger.info("workers_scaled", **what)
        self._why, self._since = change.why, time.time()
        self._changes["up" if change.workers > before else "down"] += 1
        while len(self._fleet.workers) < change.workers and not self._fleet.draining:
            if not await self._more():
                return
        while len(self._fleet.workers) > change.workers and not self._fleet.draining:
            await self._fleet.retire_worker()

    async def _more(self) -> bool:
        """Have one more at work; False: it cannot begin, and is not wanted any more."""
        busiest = self._busiest()
        slot = self._fleet.add_worker()
        try:
            await self._fleet.wait_until_ready(slot)
        except TimeoutError:
            self._logger.warning("worker_not_ready", worker=slot.index)
            self._why, self._since = f"{slot.name} was not ready in time", time.time()
            self._changes["down"] += 1
            await self._fleet.retire_worker()
            return False
        self._fleet.share()
        if slot.ready and busiest.child is not None:
            busiest.child.send(HandOver())
        return True
