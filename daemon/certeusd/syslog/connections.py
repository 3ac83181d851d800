"""Accepting, and who gives way where there are too many.

A peer of a loopback port has no name here, so no limit can be its own. Where there are as many
connections as there may be, the one gives way that has been silent longest, first of those that
have never sent a whole message: who keeps ten thousand open keeps nobody out.
"""

import asyncio
import errno
import resource
import socket
from collections import OrderedDict

from certeusd.door_process import DoorProcess
from certeusd.syslog.intake import Intake
from certeusd.syslog.readiness import Readiness
from certeusd.syslog.streams import Stream

ACCEPTED_MAX = 64
"""So many at a time; then the others have their turn."""
PAUSE_S = 0.25
"""Where there are no descriptors: somebody must close first."""
SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
DESCRIPTORS_RESERVED = 256
"""For the session, for the sockets, for those who have given way, and whatever else is opened."""

Life = asyncio.Task[None]


class Connections:
    """All of one listening socket, which stays its owner's."""

    def __init__(self, intake: Intake, readiness: Readiness, process: DoorProcess) -> None:
        self._intake = intake
        self._readiness = readiness
        self._process = process
        self._most = self._affordable(process.config.syslog.connections_max)
        self._silent = OrderedDict[Stream, Life]()
        self._speaking = OrderedDict[Stream, Life]()
        self._leaving = set[Life]()
        """Have given way, and have their descriptors until they had their turns."""

    def __len__(self) -> int:
        return len(self._silent) + len(self._speaking)

    def _affordable(self, wanted: int) -> int:
        descriptors_max, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = max(2, min(wanted, descriptors_max - DESCRIPTORS_RESERVED))
        if most < wanted:
            self._process.logger.warning(
                "syslog_connections_fewer", configured=wanted, served=most,
                next="raise LimitNOFILE= of the service, or lower syslog.connections_max",
            )  # fmt: skip
        return most

    async def run(self, listener: socket.socket) -> None:
        """Accept until the process drains; return when the last one has ended."""
        while not self._readiness.ended:
            await self._readiness.of(listener)
            await asyncio.sleep(self._accept(listener))
            while len(self._leaving) >= ACCEPTED_MAX:
                await asyncio.wait(self._leaving, return_when=asyncio.FIRST_COMPLETED)
        if left := {*self._silent.values(), *self._speaking.values(), *self._leaving}:
            await asyncio.wait(left)

    def _accept(self, listener: socket.socket) -> float:
        """Accept some; how long to wait before the next ones."""
        for _ in range(ACCEPTED_MAX):
            try:
                end, _ = listener.accept()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno in SHORT:
                    self._process.logger.warning("syslog_cannot_accept", error=error.strerror)
                    return PAUSE_S
                continue  # It has gone while it waited.
            end.setblocking(False)
            self._serve(end)
        return 0.0

    def _serve(self, end: socket.socket) -> None:
        if len(self) >= self._most:
            quiet, life = (self._silent or self._speaking).popitem(last=False)
            quiet.end()
            self._leaving.add(life)
            self._process.count("turned_away_total")
        stream = Stream(
            end, self._intake, self._readiness, self._process.config.syslog, self._spoke
        )
        life = asyncio.get_running_loop().create_task(self._live(stream))
        life.add_done_callback(self._leaving.discard)
        self._silent[stream] = life
        self._process.count("connections_total")

    async def _live(self, stream: Stream) -> None:
        try:
            await stream.run()
        except Exception as error:  # the boundary: one connection's fault ends no other
            self._process.logger.error("syslog_connection_failed", exc_info=error)
        finally:
            self._silent.pop(stream, None)
            self._speaking.pop(stream, None)

    def _spoke(self, stream: Stream) -> None:
        life = self._silent.pop(stream, None) or self._speaking.pop(stream, None)
        if life is not None:  # Else it has given way.
            self._speaking[stream] = life
