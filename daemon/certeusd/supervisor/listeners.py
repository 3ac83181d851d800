"""The listening sockets of `[[ingest]]`: bound once, shared by all workers, outliving each of them.

Anyone may connect (mode 0666 by default); a worker decides by the peer's credentials.
"""

import os
import socket
from pathlib import Path

from certeusd.config import Config
from certeusd.paths import check_socket_path

BACKLOG = 1024


def bind(path: Path, kind: socket.SocketKind, mode: int) -> socket.socket:
    """Bind a listening socket at `path` with exactly `mode`; a stale one there is replaced.

    The caller holds the lock of the runtime directory, so no living daemon listens there.
    """
    check_socket_path(path)
    listener = socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK)
    if path.is_socket():
        path.unlink()
    mask = os.umask(0o777 & ~mode)
    try:
        listener.bind(str(path))
    finally:
        os.umask(mask)
    listener.listen(BACKLOG)
    return listener


def ingest_paths(config: Config, runtime_dir: Path) -> list[Path]:
    """Where each `[[ingest]]` listens; relative paths are in the runtime directory."""
    return [runtime_dir / listener.path for listener in config.ingest]
