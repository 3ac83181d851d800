"""One producer for each peer, opened when it first appends, closed when it has been quiet.

So a peer's ring is its own: who sends more than there is room for waits for nobody but itself, and
its order is the order in which its requests were read.
"""

import asyncio
import time
from pathlib import Path

from certeus.errors import ConnectError
from certeusd.api.problems import ProblemError
from certeusd.door import Door
from certeusd.logs import Logger

PRODUCERS_MAX = 32
QUIET_S = 60.0
CLOSE_TIMEOUT_S = 10.0
BUSY_AGAIN_S = 1


class Producers:
    """Doors by the names of peers."""

    def __init__(self, socket: Path, logger: Logger) -> None:
        self._socket = socket
        self._logger = logger
        self._open: dict[str, tuple[Door, float]] = {}
        self._opening = asyncio.Lock()

    def __len__(self) -> int:
        return len(self._open)

    async def of(self, name: str) -> Door:
        """Return a peer's producer.

        Raises:
            ProblemError: 503, no worker serves one now.
        """
        now = time.monotonic()
        found = self._open.get(name)
        if found is None or not found[0].usable:
            found = (await self._replace(name), now)
        self._open[name] = (found[0], now)
        return found[0]

    async def _replace(self, name: str) -> Door:
        async with self._opening:
            found = self._open.get(name)
            if found is not None and found[0].usable:
                return found[0]
            if found is not None:
                del self._open[name]
                await found[0].close(0.0)
            await self._make_room()
            try:
                door = await Door.open(self._socket, f"api/{name}")
            except ConnectError as error:
                raise ProblemError(
                    503, "no-worker", "not served now", f"{error}",
                    headers={"Retry-After": str(BUSY_AGAIN_S)},
                ) from error  # fmt: skip
            self._open[name] = (door, time.monotonic())
            return door

    async def _make_room(self) -> None:
        if len(self._open) < PRODUCERS_MAX:
            return
        idle = [(since, name) for name, (door, since) in self._open.items() if door.idle]
        if not idle:
            raise ProblemError(
                503, "too-many-peers", "too many peers at a time",
                f"{PRODUCERS_MAX} others append just now; try again",
                headers={"Retry-After": str(BUSY_AGAIN_S)},
            )  # fmt: skip
        _, name = min(idle)
        door, _ = self._open.pop(name)
        await door.close(CLOSE_TIMEOUT_S)

    async def close_quiet(self) -> None:
        """Close those that nobody has used for a while."""
        until = time.monotonic() - QUIET_S
        for name in [name for name, (door, at) in self._open.items() if at < until and door.idle]:
            door, _ = self._open.pop(name)
            await door.close(CLOSE_TIMEOUT_S)

    async def close(self, timeout_s: float) -> None:
        """Settle and close all of them."""
        doors = [door for door, _ in self._open.values()]
        self._open.clear()
        settled = await asyncio.gather(*(door.close(timeout_s) for door in doors))
        if not all(settled):
            self._logger.warning("api_not_all_settled", producers=len(settled) - sum(settled))
