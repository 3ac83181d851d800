"""All of the door: its sockets, each read for itself, one intake, and the end in order."""

import asyncio
import socket
import time
from collections.abc import Coroutine

from certeusd.door_process import DoorProcess
from certeusd.syslog.connections import Connections
from certeusd.syslog.datagrams import Datagrams
from certeusd.syslog.drops import Drops, enlarge
from certeusd.syslog.intake import Intake
from certeusd.syslog.late_ports import LatePorts
from certeusd.syslog.readiness import Readiness
from certeusd.syslog.senders import Senders

TICK_S = 1.0
REFUSED_TOLD_S = 60.0
"""Between two lines of what was refused."""
READ_S = 1.0
READ_PART = 0.25
SETTLE_PART = 0.5
"""Of the time to drain: for reading what waits, and for settling it."""


class Server:
    """Reads what there is."""

    def __init__(self, process: DoorProcess) -> None:
        self._process = process
        self._readiness = Readiness()
        self._intake = Intake(process)
        self._senders = Senders(process.config.syslog)
        self._connections = Connections(self._intake, self._readiness, process)
        self._late = LatePorts(process, self._readiness)
        self._drops: list[Drops] = []
        self._refused_told = 0.0

    async def run(self) -> None:
        """Read until the process drains; then read what waits, and settle all of it."""
        process, drain_s = self._process, self._process.drain_timeout_s
        loop = asyncio.get_running_loop()
        settling, ticking = loop.create_task(self._intake.run()), loop.create_task(self._tick())
        late = [loop.create_task(self._read_late(key)) for key in self._late.missing()]
        readers = [loop.create_task(self._read(end)) for end in process.listeners]
        drained = loop.create_task(process.draining.wait())
        own = {settling, ticking, drained, *late, *readers}
        while not drained.done():
            done, _ = await asyncio.wait(own, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # A fault of ours must not go unseen.
            own -= done
        self._readiness.end(min(READ_S, drain_s * READ_PART))
        reading = {task for task in (*readers, *late) if not task.done()}
        if reading:
            await asyncio.wait(reading, timeout=drain_s * SETTLE_PART)
        for task in (*reading, settling, ticking):
            task.cancel()
        await self._intake.close(drain_s * SETTLE_PART)
        self._tell_refused()

    def _read(self, end: socket.socket) -> Coroutine[None, None, None]:
        if end.type == socket.SOCK_STREAM:
            return self._connections.run(end)
        if end.family != socket.AF_UNIX:
            enlarge(end, self._process)
            self._drops.append(Drops(end, self._process))
        return Datagrams(end, self._intake, self._senders, self._readiness, self._process).run()

    async def _read_late(self, key: str) -> None:
        end = await self._late.bind(key)
        if end is not None:
            with end:
                await self._read(end)

    async def _tick(self) -> None:
        while True:
            self._process.gauge("connections", len(self._connections))
            for drops in self._drops:
                drops.look()
            if self._intake.refused and time.monotonic() - self._refused_told >= REFUSED_TOLD_S:
                self._tell_refused()
            await asyncio.sleep(TICK_S)

    def _tell_refused(self) -> None:
        if self._intake.refused:
            self._refused_told = time.monotonic()
            self._process.logger.warning("syslog_refused", **self._intake.refused)
            self._intake.refused.clear()


async def serve(process: DoorProcess) -> None:
    """Be syslog's process."""
    await Server(process).run()
