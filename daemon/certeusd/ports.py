"""Loopback ports: bound in one way, by whoever needs one."""

import contextlib
import socket

from certeusd.control.exposed import Address

BACKLOG = 1024


def bind(at: Address, kind: socket.SocketKind) -> socket.socket:
    """Bind a loopback port, not blocking, and listen where the kind has connections.

    Raises:
        OSError: it is taken, or may not be.
    """
    with contextlib.ExitStack() as undo:
        end = undo.enter_context(socket.socket(at.family, kind | socket.SOCK_NONBLOCK))
        if kind == socket.SOCK_STREAM:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        end.bind((at.host, at.port))
        if kind == socket.SOCK_STREAM:
            end.listen(BACKLOG)
        undo.pop_all()
        return end
