"""Who may ask: the kernel's word for the peer of a connection, never the peer's own.

Being able to open `control.sock` (0660) is the first gate, this is the second: the daemon's own
uid, root, or group `certeus-admin`. Whoever passes may drain the service and read where the data
is; what only the daemon's uid and root may do says so in its row of the route table.
"""

import os
import socket
import struct
from enum import StrEnum
from typing import NamedTuple

_SO_PEERGROUPS = 59
_UCRED = struct.Struct("3i")


class Access(StrEnum):
    """The rule of a route."""

    ADMIN = "admin"
    """The daemon's uid, root, members of the control group."""
    OWNER = "owner"
    """The daemon's uid and root."""


class Peer(NamedTuple):
    """A process at the other end; the pid is for display only."""

    pid: int
    uid: int
    gids: frozenset[int]


def peer_of(end: socket.socket) -> Peer:
    """Ask the kernel who connected."""
    pid, uid, gid = _UCRED.unpack(
        end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    )
    raw = end.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 1024)
    groups = struct.unpack(f"{len(raw) // 4}I", raw)
    return Peer(pid, uid, frozenset((gid, *groups)))


def allowed(access: Access, peer: Peer, group: int | None, uid: int | None = None) -> bool:
    """Decide; `uid` is the daemon's own, `group` the control group's number if there is one."""
    if peer.uid in (0, os.geteuid() if uid is None else uid):
        return True
    return access is Access.ADMIN and group is not None and group in peer.gids
