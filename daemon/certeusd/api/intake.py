"""What a request appends: parts of it into its peer's ring, and their verdicts back.

Whatever format it came in, an encoder made payloads of it; from here on all requests are alike.
"""

import asyncio
import time
from types import TracebackType
from typing import Self

from aiohttp import web

from certeusd._native import Encoded
from certeusd.api.peers import Caller
from certeusd.api.producers import Producer
from certeusd.api.refusals import by_runs
from certeusd.api.routing import Context
from certeusd.api.verdicts import Verdicts

PIECES_MAX = 65_536
"""So many runs of events may wait for their verdicts before more are read."""


class Intake:
    """The events of one request. A context manager: within it no verdict of theirs is forgotten."""

    def __init__(
        self, context: Context, caller: Caller, producer: Producer, deadline: float
    ) -> None:
        """Begin with none.

        Args:
            context: of the request's handler.
            caller: whose request it is.
            producer: its own.
            deadline: monotonic seconds; nothing here waits for longer than until then.
        """
        self._context = context
        self._caller = caller
        self._door = producer.door
        self.deadline = deadline
        self.verdicts = Verdicts(producer.door)
        self._taken = producer.door.taken_by(self.verdicts)

    def __enter__(self) -> Self:
        self._taken.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._taken.__exit__(kind, error, trace)

    async def append(self, encoded: Encoded) -> bool:
        """Append a part; False: there was no room for all of it in time.

        Raises:
            LateError: too much of what was appended before waits for its verdict.
            Error: the producer has ended; what it was given is in doubt.
        """
        verdicts = self.verdicts
        refused = encoded.refused
        verdicts.begin(by_runs(refused))
        tickets = await self._door.append(encoded.payloads, self._left_s(), verdicts.appended)
        verdicts.end()
        await self._take()
        self._context.process.count("events_total", len(tickets))
        if tickets:  # Not all of them, if there was no room.
            handed_over = len(encoded.payloads) * len(tickets) // encoded.count
            self._context.process.count("bytes_total", handed_over)
        self._context.process.count("refused_total", len(refused))
        if verdicts.pieces > PIECES_MAX:
            await self.settle()
        return len(tickets) == encoded.count

    async def paced(self, request: web.BaseRequest, events: int) -> None:
        """Charge a part of a stream, and wait while its peer has used up its share.

        Raises:
            ConnectionError: the peer has gone meanwhile.
        """
        await self._context.throttle.paced(request, self._caller, events)

    def charge(self, events: int) -> None:
        """Charge a part; what is beyond its peer's share is paid for by its next request."""
        self._context.throttle.charge(self._caller, events)

    async def settle(self) -> None:
        """Wait for the verdicts of all that was appended.

        Raises:
            LateError: they did not come in time.
            Error: the producer has ended; what has no verdict is in doubt.
        """
        if self.verdicts.last_ticket:
            await self._door.settled(self.verdicts.last_ticket, self._left_s())
            await self._take()

    async def _take(self) -> None:
        """Take all that is out; others have their turn between the steps."""
        more = True
        while more:
            more = self.verdicts.take()
            await asyncio.sleep(0)

    def _left_s(self) -> float:
        return max(self.deadline - time.monotonic(), 0.0)
