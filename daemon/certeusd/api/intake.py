"""What a request appends: parts of it into its peer's ring, and their verdicts back.

Whatever format it came in, an encoder made payloads of it; from here on all requests are alike.
"""

import time

from aiohttp import web

from certeusd._native import Encoded
from certeusd.api.peers import Caller
from certeusd.api.producers import Producer
from certeusd.api.routing import Context
from certeusd.api.verdicts import Verdicts


class Intake:
    """The events of one request."""

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
        self._deadline = deadline
        self.verdicts = Verdicts(producer.door)

    async def append(self, encoded: Encoded) -> bool:
        """Append a part; False: there was no room for all of it in time.

        Raises:
            Error: the producer has ended; what it was given is in doubt.
        """
        tickets = await self._door.append(encoded.payloads, self._left_s())
        self.verdicts.add(encoded.seen, encoded.refused, tickets)
        self._context.process.count("events_total", len(tickets))
        self._context.process.count("refused_total", len(encoded.refused))
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
            self.verdicts.take()

    def _left_s(self) -> float:
        return max(self._deadline - time.monotonic(), 0.0)
