"""A port that somebody else had when certeusd was started: the door binds it once it is free.

It is the supervisor's from its next start on. Until then what waits there ends with the door.
"""

import asyncio
import socket

from certeusd import ports
from certeusd.control.exposed import address
from certeusd.door_process import DoorProcess
from certeusd.syslog.readiness import Readiness

REASON = "syslog-port"
AGAIN_S = 3.0
KINDS = {"udp": socket.SOCK_DGRAM, "tcp": socket.SOCK_STREAM}


class LatePorts:
    """Which ports are configured and not there."""

    def __init__(self, process: DoorProcess, readiness: Readiness) -> None:
        self._process = process
        self._readiness = readiness
        self._missing = dict[str, str]()

    def missing(self) -> list[str]:
        """Return those of `udp` and `tcp` that the supervisor could not bind."""
        there = {end.type for end in self._process.listeners if end.family != socket.AF_UNIX}
        syslog = self._process.config.syslog
        return [key for key, kind in KINDS.items() if getattr(syslog, key) and kind not in there]

    async def bind(self, key: str) -> socket.socket | None:
        """Bind one, however long that takes; none: the process drains."""
        listen: str = getattr(self._process.config.syslog, key)
        at = address(listen)
        assert at is not None, "only what is configured can be missing"
        while not self._readiness.ended:
            try:
                end = ports.bind(at, KINDS[key])
            except OSError as error:
                self._missing[key] = f"cannot serve {key} {listen}: {error.strerror}"
                self._tell()
                await asyncio.sleep(AGAIN_S)
            else:
                self._missing.pop(key, None)
                self._tell()
                return end
        return None

    def _tell(self) -> None:
        self._process.tell(
            REASON, "; ".join(self._missing.values()),
            "free the port, or set syslog.udp and syslog.tcp to others and start certeusd again",
        )  # fmt: skip
