"""Who is at the other end of a Unix socket, by the kernel's word (SO_PEERCRED, SO_PEERGROUPS)."""

import errno
import socket
import struct
from dataclasses import dataclass

_SO_PEERGROUPS = 59
_GROUP_BYTES = 4
_CREDENTIALS = struct.Struct("=iII")


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a socket, as the kernel saw it at connect."""

    pid: int
    """For display: it may be another process by now."""
    uid: int
    gids: frozenset[int]
    """Primary and supplementary."""


def peer_of(end: socket.socket) -> Peer:
    """Return the credentials that the peer had when it connected."""
    raw = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(raw)
    return Peer(pid=pid, uid=uid, gids=frozenset({gid, *_groups(end)}))


def _groups(end: socket.socket) -> list[int]:
    # The kernel says ERANGE when the room is too small; most processes have few groups. Python's
    # getsockopt gives at most 1024 bytes, so a peer with more than 256 is known by its first gid.
    try:
        raw = end.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 1024)
    except OSError as error:
        if error.errno in (errno.ERANGE, errno.ENOPROTOOPT):
            return []
        raise
    return list(struct.unpack(f"={len(raw) // _GROUP_BYTES}I", raw))
