"""What the kernel had no room for at the UDP port: counted by the kernel, told while it happens.

A datagram of UDP waits for nobody. All that helps is a buffer that is large enough for the longest
stall, or another way to send.
"""

import socket
import struct
import time

from certeusd.door_process import DoorProcess

REASON = "syslog-drops"
TOLD_S = 60.0
"""So long after the last one it is still told."""
_SO_RCVBUFFORCE = 33
_SO_MEMINFO = 55
_MEMINFO = struct.Struct("=9I")
_DROPS = 8


def enlarge(end: socket.socket, process: DoorProcess) -> None:
    """Give a socket the buffer that is configured, as far as that is allowed."""
    wanted = process.config.syslog.udp_buffer_bytes
    try:
        end.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, wanted)
    except PermissionError:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, wanted)
    # The kernel doubles what is asked for, for its own.
    given = end.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
    if given < wanted:
        process.logger.warning(
            "syslog_buffer_smaller", configured=wanted, given=given,
            next=f"sysctl net.core.rmem_max={wanted}, or lower syslog.udp_buffer_bytes",
        )  # fmt: skip


class Drops:
    """Of one socket, which is older than this process: what was dropped before it is told, too."""

    def __init__(self, end: socket.socket, process: DoorProcess) -> None:
        self._end = end
        self._process = process
        self._until = 0.0
        self._count = process.board.get(process.role, "dropped_total")
        # A port that was bound late is a new socket, and the count goes on.
        self._before = self._count if _dropped(end) < self._count else 0

    def look(self) -> None:
        """Count, and tell whether there were any of late; once a second or so."""
        count, now = self._before + _dropped(self._end), time.monotonic()
        if count != self._count:
            self._count, self._until = count, now + TOLD_S
            self._process.gauge("dropped_total", count)
            self._process.tell(
                REASON, "messages by UDP came faster than they could be taken, and were dropped",
                "send to the Unix socket or by TCP, which wait; or raise syslog.udp_buffer_bytes",
            )  # fmt: skip
        elif now >= self._until:
            self._process.tell(REASON, "")


def _dropped(end: socket.socket) -> int:
    raw = end.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
    return int(_MEMINFO.unpack(raw)[_DROPS])
