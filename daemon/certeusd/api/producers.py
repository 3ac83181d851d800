"""One producer for each peer, opened when it first appends, closed when it has been quiet.

So a peer's ring is its own: who sends more than there is room for waits for nobody but itself, and
its order is the order in which its requests were read.
"""

import asyncio
import time
from typing import NamedTuple

from certeus.errors import ConnectError
from certeusd._native import DoorEncoder
from certeusd.api.peers import Caller
from certeusd.api.problems import ProblemError
from certeusd.door import Door, event_bytes_max, ring_bytes
from certeusd.door_process import DoorProcess
from certeusd.rule import Rule

PRODUCERS_MAX = 32
SOURCE_PREFIX = "api/"
QUIET_S = 60.0
CLOSE_TIMEOUT_S = 10.0
BUSY_AGAIN_S = 1


class Producer(NamedTuple):
    """What one peer's events go through."""

    door: Door
    encoder: DoorEncoder


class Producers:
    """One for each peer, by its name."""

    def __init__(self, process: DoorProcess, rule: Rule) -> None:
        self._process = process
        self._rule = rule
        self._open: dict[str, tuple[Producer, float]] = {}
        self._opening = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._open)

    def default_source(self, caller: Caller) -> str | None:
        """Return the source of events that name none; none: the rule does not allow it."""
        source = f"{SOURCE_PREFIX}{caller.user}"
        return source if self._rule.allows(source) else None

    async def of(self, caller: Caller) -> Producer:
        """Return a peer's producer.

        Raises:
            ProblemError: 503, no worker serves one now.
        """
        found = self._usable(caller.name) or await self._replace(caller)
        self._open[caller.name] = (found, time.monotonic())
        return found

    def _usable(self, name: str) -> Producer | None:
        found = self._open.get(name)
        return found[0] if found is not None and found[0].door.usable else None

    async def _replace(self, caller: Caller) -> Producer:
        async with self._opening:
            if (found := self._usable(caller.name)) is not None:
                return found
            if (ended := self._open.pop(caller.name, None)) is not None:
                await ended[0].door.close(0.0)
            await self._make_room()
            source = f"{SOURCE_PREFIX}{caller.user}"
            limits = self._process.config.limits
            size = ring_bytes(limits)
            try:
                door = await Door.open(self._process.private_socket, source, ring_bytes=size)
            except ConnectError as error:
                raise ProblemError(
                    503, "no-worker", "not served now", f"{error}",
                    headers={"Retry-After": str(BUSY_AGAIN_S)},
                ) from error  # fmt: skip
            data_max = event_bytes_max(limits, size)
            made = Producer(door, DoorEncoder(data_max, source, self._rule.sources))
            self._open[caller.name] = (made, time.monotonic())
            return made

    async def _make_room(self) -> None:
        if len(self._open) < PRODUCERS_MAX:
            return
        idle = [(since, name) for name, (one, since) in self._open.items() if one.door.idle]
        if not idle:
            raise ProblemError(
                503, "too-many-peers", "too many peers at a time",
                f"{PRODUCERS_MAX} others append just now; try again",
                headers={"Retry-After": str(BUSY_AGAIN_S)},
            )  # fmt: skip
        _, name = min(idle)
        one, _ = self._open.pop(name)
        await one.door.close(CLOSE_TIMEOUT_S)

    async def close_quiet(self) -> None:
        """Close those that nobody has used for a while."""
        until = time.monotonic() - QUIET_S
        quiet = [name for name, (one, at) in self._open.items() if at < until and one.door.idle]
        for name in quiet:
            one, _ = self._open.pop(name)
            await one.door.close(CLOSE_TIMEOUT_S)

    async def close(self, timeout_s: float) -> None:
        """Settle and close all of them."""
        doors = [one.door for one, _ in self._open.values()]
        self._open.clear()
        settled = await asyncio.gather(*(door.close(timeout_s) for door in doors))
        if not all(settled):
            unsettled = len(settled) - sum(settled)
            self._process.logger.warning("api_not_all_settled", producers=unsettled)
