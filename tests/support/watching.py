"""Tells at once what happens to the names in a directory (inotify), to strike amid it."""

import ctypes
import os
import select
import struct
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

OPEN, MOVED_FROM, MOVED_TO, CREATE = 0x20, 0x40, 0x80, 0x100
NAMES = MOVED_FROM | MOVED_TO | CREATE
_HEAD = struct.Struct("iIII")
_LIBC = ctypes.CDLL(None, use_errno=True)


class Watch:
    """What happened in one directory since the last question."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def events(self, wait_ms: int = 5) -> list[tuple[int, str]]:
        """What happened, and to which name; waits that long for a first one."""
        if not select.select([self._fd], [], [], wait_ms / 1000)[0]:
            return []
        told, at = os.read(self._fd, 1 << 16), 0
        found: list[tuple[int, str]] = []
        while at < len(told):
            _, mask, _, length = _HEAD.unpack_from(told, at)
            at += _HEAD.size
            found.append((mask, told[at : at + length].rstrip(b"\0").decode()))
            at += length
        return found


@contextmanager
def watching(path: Path, mask: int = NAMES) -> Generator[Watch]:
    """Watch a directory for the length of a block; it may be unmounted meanwhile."""
    fd = _LIBC.inotify_init1(os.O_CLOEXEC)
    try:
        if fd < 0 or _LIBC.inotify_add_watch(fd, bytes(path), mask) < 0:
            raise OSError(ctypes.get_errno(), f"cannot watch {path}")
        yield Watch(fd)
    finally:
        os.close(fd)
