"""Two connections in turn: while one batch commits, the rows of the next are on their way.

```text
  lane 0   read 1 │ COPY 1 ...... │ set, COMMIT 1 │ read 3 │ COPY 3 ......
  lane 1          │ read 2 │ COPY 2 ...... (waits) │ set, COMMIT 2 │ read 4 ...
```

Batches are taken in the log's order, and each compares and sets the position when the one before it
has committed: so they commit in the log's order too. Whatever ends one lane ends both, and the
server rolls back what the other one has sent.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from certeusd.flush.connection import Link
from certeusd.flush.errors import BlockedError
from certeusd.flush.position import Position
from certeusd.flush.types import Connection
from certeusd.log.reader import Batch

LOOK_INTERVAL_S = 1.0
_BLOCKS = "SELECT pg_backend_pid() = ANY (pg_blocking_pids($1))"


class Turn:
    """When a batch may move the position: once the one before it has committed."""

    def __init__(self, before: asyncio.Future[Position], sender: Connection | None) -> None:
        self._before = before
        self._sender = sender

    @staticmethod
    def now(position: Position) -> "Turn":
        """Return the turn of a batch that goes alone."""
        before = asyncio.get_running_loop().create_future()
        before.set_result(position)
        return Turn(before, None)

    async def wait(self, connection: Connection, moved: Callable[[], None]) -> Position:
        """Wait, within the batch's transaction or outside; return where the position is then.

        Raises:
            BlockedError: the batch before waits for a lock that this transaction holds.
        """
        while not self._before.done():
            await asyncio.wait({self._before}, timeout=LOOK_INTERVAL_S)
            if not self._before.done() and self._sender is not None:
                moved()
                if await connection.fetchval(_BLOCKS, self._sender.get_server_pid()):
                    raise BlockedError
        return self._before.result()


class Lanes:
    """Delivers batch after batch over some connections, until there is none to be taken."""

    def __init__(
        self,
        take: Callable[[], Awaitable[Batch | None]],
        deliver: Callable[[Link, Batch, Turn], Awaitable[Position]],
    ) -> None:
        self._take = take
        self._deliver = deliver
        self._taking = asyncio.Lock()
        self._ended = False
        self._last: asyncio.Future[Position] = asyncio.get_running_loop().create_future()
        self._sender: Connection | None = None

    async def run(self, links: Sequence[Link], position: Position) -> Position:
        """Deliver all that `take` gives, from `position` on; returns where the last one left it.

        Raises:
            whatever `take` or `deliver` does; what was not committed is given up, and connections
            in the middle of something are terminated.
        """
        self._last.set_result(position)
        lanes = [asyncio.ensure_future(self._lane(link)) for link in links]
        try:
            done, _ = await asyncio.wait(lanes, return_when=asyncio.FIRST_EXCEPTION)
            for lane in done:
                lane.result()
        finally:
            for lane in lanes:
                lane.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)
        return self._last.result()

    async def _lane(self, link: Link) -> None:
        while True:
            async with self._taking:
                batch = None if self._ended else await self._take()
                if batch is None:
                    self._ended = True
                    return
                turn = Turn(self._last, self._sender)
                after = self._last = asyncio.get_running_loop().create_future()
                self._sender = link.connection
            after.set_result(await self._deliver(link, batch, turn))
