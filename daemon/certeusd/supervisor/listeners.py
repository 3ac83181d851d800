"""The listening sockets: bound once, shared by all workers, outliving each of them.

systemd may hold some or all of them for us (`certeus.socket`): then a client that connects while
the daemon is started again waits instead of failing. They are known by their path; mode and owner
are then the unit's. Anyone may connect to an `[[ingest]]` (mode 0666 by default); a worker decides
by the peer's credentials.
"""

import grp
import os
import socket
from collections.abc import Iterable
from pathlib import Path

from certeusd.control.exposed import Address
from certeusd.exits import Exit, ExitError
from certeusd.paths import check_socket_path

BACKLOG = 1024

_WRITTEN = {
    socket.SOCK_STREAM: "ListenStream=",
    socket.SOCK_SEQPACKET: "ListenSequentialPacket=",
    socket.SOCK_DGRAM: "ListenDatagram=",
}


class Given:
    """What systemd listens on for us, by path; each is taken once, and closed by its taker."""

    def __init__(self, sockets: Iterable[socket.socket]) -> None:
        self._by_path = {_place_of(end): end for end in sockets}

    def take(self, path: Path, kind: socket.SocketKind) -> socket.socket | None:
        """Return the one at `path`, if there is one.

        Raises:
            ExitError: 78, it is of another kind.
        """
        end = self._by_path.pop(os.path.realpath(path), None)
        if end is not None and end.type != kind:
            raise ExitError(
                Exit.CONFIGURATION,
                f"cannot use the socket that systemd has at {path}: write {_WRITTEN[kind]}{path} in"
                " its unit",
            )
        return end

    def take_port(self, at: Address, kind: socket.SocketKind) -> socket.socket | None:
        """Return the one at a port, if there is one."""
        return self._by_path.pop(_port(at.host, at.port, kind), None)

    def close(self) -> list[str]:
        """Close what nobody has taken, and say where that was."""
        left = list(self._by_path.items())
        self._by_path.clear()
        for _, end in left:
            end.close()
        return [path for path, _ in left]


def _place_of(end: socket.socket) -> str:
    if end.family == socket.AF_UNIX:
        path: str = end.getsockname()
        return os.path.realpath(path)
    host, port, *_ = end.getsockname()
    return _port(host, port, end.type)


def _port(host: str, port: int, kind: int) -> str:
    return f"{host} {port} {'udp' if kind == socket.SOCK_DGRAM else 'tcp'}"


def tell_senders(end: socket.socket) -> None:
    """Have the kernel say of each datagram who sent it."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)


def bind(path: Path, kind: socket.SocketKind, mode: int) -> socket.socket:
    """Bind a socket at `path` with exactly `mode`, and listen; a stale one there is replaced.

    It is never wider, not even for a moment. The caller holds the lock of the runtime directory, so
    no living daemon listens there.
    """
    check_socket_path(path)
    listener = socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK)
    if path.is_socket():
        path.unlink()
    if kind == socket.SOCK_DGRAM:
        tell_senders(listener)
    mask = os.umask(0o777 & ~mode)
    try:
        listener.bind(str(path))
    finally:
        os.umask(mask)
    if kind != socket.SOCK_DGRAM:
        listener.listen(BACKLOG)
    return listener


def give_to_group(path: Path, name: str) -> bool:
    """Give a socket to a group, if there is one and we may; returns false if we may not."""
    try:
        os.chown(path, -1, grp.getgrnam(name).gr_gid)
    except KeyError:
        return True  # Made with the package; a daemon by hand does without.
    except PermissionError:
        return False
    return True
