"""Files of the embedded cluster, as root among directories of the server's unprivileged user.

That user can put a link wherever root is about to read or write: then root reads and writes as that
user does, or makes the file anew and follows no link.
"""

import contextlib
import os
from collections.abc import Generator
from pathlib import Path

from certeusd.supervisor.postgres_install import User


@contextlib.contextmanager
def acting_as(user: User) -> Generator[None]:
    """Have files opened with the user's rights, not root's; for a process with one thread."""
    if os.geteuid() != 0:
        yield
        return
    gid, groups = os.getegid(), os.getgroups()
    try:
        os.setgroups(user.groups)
        os.setegid(user.gid)
        os.seteuid(user.uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)


def write_anew(path: Path, text: str) -> None:
    """Put a file that all may read in the place of whatever has its name, at once."""
    making = path.with_name(f"{path.name}.new")
    making.unlink(missing_ok=True)
    with open(making, "x", opener=no_link) as file:
        file.write(text)
        os.fchmod(file.fileno(), 0o644)
    making.rename(path)


def append_synced(path: Path, text: str) -> None:
    """Add lines to a file, durably; OSError if it is a link."""
    with open(path, "a", opener=no_link) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def no_link(path: str, flags: int) -> int:
    """Open a file for `open(opener=)`; OSError if it is a link."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def hand_over(folder: Path, user: User) -> None:
    """Have a directory entered by all; as root, give it to the user. OSError if it is a link."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(descriptor, 0o711)
        if os.geteuid() == 0:
            os.fchown(descriptor, user.uid, user.gid)
    finally:
        os.close(descriptor)
