"""Datagrams, from the Unix socket and from the UDP port: whole, or refused."""

import asyncio
import socket

from certeusd._native import DatagramBuffer, Encoded, recv_datagrams
from certeusd.door_process import DoorProcess
from certeusd.syslog.intake import NOT_ALLOWED, TOO_LARGE, Intake
from certeusd.syslog.readiness import Readiness
from certeusd.syslog.senders import UDP, Senders

COUNT_MAX = 256
BYTES_MAX = 64 * 1024
"""Of one turn; the datagram with which there are so many is the last one."""
PAUSE_S = 0.25
"""Where the kernel has no memory."""


class Datagrams:
    """Reads one socket, which stays its owner's."""

    def __init__(
        self,
        end: socket.socket,
        intake: Intake,
        senders: Senders,
        readiness: Readiness,
        process: DoorProcess,
    ) -> None:
        self._end = end
        self._intake = intake
        self._senders = senders
        self._readiness = readiness
        self._logger = process.logger
        self._type = process.config.syslog.type
        self._by_sender = end.family == socket.AF_UNIX
        # An object is larger than what it was made of: who does not fit here fits in no event.
        self._buffer = DatagramBuffer(intake.data_bytes_max)

    async def run(self) -> None:
        """Read until the process drains, and then what is there."""
        last = False
        while not last:
            last = self._readiness.ended
            await self._readiness.of(self._end)
            try:
                while not self._readiness.over and await self._batch():
                    pass
            except OSError as error:
                self._logger.warning("syslog_not_received", error=str(error))
                await asyncio.sleep(PAUSE_S)

    async def _batch(self) -> bool:
        """Have one turn; False: nothing was there.

        Raises:
            OSError: nothing can be read now.
        """
        async with self._intake.turn():
            try:
                runs, cut = recv_datagrams(self._end.fileno(), self._buffer, COUNT_MAX, BYTES_MAX)
            except BlockingIOError:
                return False
            if cut:
                self._intake.refuse(TOO_LARGE, cut)
            parts = list[Encoded]()
            for sender, datagrams in runs:
                source = await self._senders.source_of(sender) if self._by_sender else UDP
                if source is None:
                    self._intake.refuse(NOT_ALLOWED, len(datagrams))
                else:
                    parts.append(self._intake.encoder.syslog(datagrams, self._type, source))
            await self._intake.take(parts)
        # Who sends nothing but what is refused must not keep the others waiting.
        await asyncio.sleep(0)
        return True
