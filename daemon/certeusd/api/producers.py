"""One producer for each peer, opened when it first appends, closed when it has been quiet.

So a peer's ring is its own: who sends more than there is room for waits for nobody but itself, and
its order is the order in which its requests were read.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator

from certeus.errors import ConnectError
from certeusd._native import DoorEncoder
from certeusd.api.peers import Caller
from certeusd.api.problems import ProblemError
from certeusd.directory import Lookups, name_of
from certeusd.door import Door, event_bytes_max, ring_bytes
from certeusd.door_process import DoorProcess
from certeusd.rule import Rule

PRODUCERS_MAX = 32
SOURCE_PREFIX = "api/"
QUIET_S = 60.0
CLOSE_TIMEOUT_S = 10.0
BUSY_AGAIN_S = 1


class Producer:
    """What one peer's events go through."""

    def __init__(self, door: Door, encoder: DoorEncoder, *, has_source: bool) -> None:
        self.door = door
        self.encoder = encoder
        self.has_source = has_source
        """Whether the rule allows the source of events that name none."""
        self.users = 0
        """Requests that append, or wait for verdicts."""
        self.used_at = time.monotonic()

    @property
    def idle(self) -> bool:
        """Whether nobody would miss it."""
        return not self.users and self.door.idle


class Producers:
    """One for each peer, by its name."""

    def __init__(self, process: DoorProcess, rule: Rule) -> None:
        self._process = process
        self._rule = rule
        self._users = Lookups(name_of)
        self._open: dict[str, Producer] = {}
        self._opening: dict[str, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        return len(self._open)

    @contextlib.asynccontextmanager
    async def of(self, caller: Caller, timeout_s: float) -> AsyncGenerator[Producer]:
        """Lend a peer's producer; it is not closed before it is given back.

        Raises:
            ProblemError: 503, no worker serves one in time.
        """
        producer = await self._found(caller, timeout_s)
        producer.users += 1
        try:
            yield producer
        finally:
            producer.users -= 1
            producer.used_at = time.monotonic()

    async def _found(self, caller: Caller, timeout_s: float) -> Producer:
        try:
            async with asyncio.timeout(timeout_s):
                # What was just opened may be gone again before those that waited have their turn.
                while (found := self._usable(caller.name)) is None:
                    await asyncio.shield(self._opened(caller))
                return found
        except TimeoutError as error:
            raise _no_worker(f"no worker has answered within {timeout_s:.1f} s") from error

    def _usable(self, name: str) -> Producer | None:
        found = self._open.get(name)
        return found if found is not None and found.door.usable else None

    def _opened(self, caller: Caller) -> "asyncio.Task[None]":
        """Return the one attempt to open a peer's, whoever waits for it; all share its failure."""
        name = caller.name
        if (under_way := self._opening.get(name)) is not None:
            return under_way
        self._opening[name] = task = asyncio.create_task(self._replace(caller))

        def ended(_: "asyncio.Task[None]") -> None:
            del self._opening[name]
            if not task.cancelled():
                task.exception()  # Perhaps nobody waits for it any more.

        task.add_done_callback(ended)
        return task

    async def _replace(self, caller: Caller) -> None:
        if (ended := self._open.pop(caller.name, None)) is not None:
            await ended.door.close(0.0)
        await self._make_room()
        user = caller.name if caller.uid is None else await self._users.get(caller.uid)
        source = f"{SOURCE_PREFIX}{user}"
        limits = self._process.config.limits
        size = ring_bytes(limits)
        try:
            door = await Door.open(self._process.private_socket, source, ring_bytes=size)
        except ConnectError as error:
            raise _no_worker(str(error)) from error
        encoder = DoorEncoder(event_bytes_max(limits, size), source, self._rule.sources)
        has_source = self._rule.allows(source)
        self._open[caller.name] = Producer(door, encoder, has_source=has_source)

    async def _make_room(self) -> None:
        if len(self._open) + len(self._opening) <= PRODUCERS_MAX:
            return  # The one that is asked for is among those that are being opened.
        idle = [(one.used_at, name) for name, one in self._open.items() if one.idle]
        if not idle:
            raise ProblemError(
                503, "too-many-peers", "too many peers at a time",
                f"{PRODUCERS_MAX} others append just now; try again",
                headers={"Retry-After": str(BUSY_AGAIN_S)},
            )  # fmt: skip
        _, name = min(idle)
        await self._open.pop(name).door.close(CLOSE_TIMEOUT_S)

    async def close_quiet(self) -> None:
        """Close those that nobody has used for a while."""
        until = time.monotonic() - QUIET_S
        quiet = [name for name, one in self._open.items() if one.used_at < until and one.idle]
        # Popped before anything is awaited: nobody is lent one that is about to be closed.
        doors = [self._open.pop(name).door for name in quiet]
        for door in doors:
            await door.close(CLOSE_TIMEOUT_S)

    async def close(self, timeout_s: float) -> None:
        """Settle and close all of them."""
        deadline = time.monotonic() + timeout_s
        if opening := tuple(self._opening.values()):
            await asyncio.wait(opening, timeout=timeout_s)
        timeout_s = max(deadline - time.monotonic(), 0.0)
        doors = [one.door for one in self._open.values()]
        self._open.clear()
        settled = await asyncio.gather(*(door.close(timeout_s) for door in doors))
        if not all(settled):
            unsettled = len(settled) - sum(settled)
            self._process.logger.warning("api_not_all_settled", producers=unsettled)


def _no_worker(why: str) -> ProblemError:
    return ProblemError(
        503, "no-worker", "not served now", why, headers={"Retry-After": str(BUSY_AGAIN_S)}
    )
