"""One daemon a state directory, one a runtime directory: `flock`, held until the kernel closes it.

The lock is of the open file, which no child inherits, so that a start right after `kill -9` works.
"""

import contextlib
import errno
import fcntl
import os
from pathlib import Path

from certeusd.exits import Exit, ExitError


def hold(path: Path, what: str | None = None) -> int:
    """Lock `path` for as long as the returned descriptor is open; the file then holds our pid.

    Args:
        path: The lock.
        what: What it guards; its directory if not said.

    Raises:
        ExitError: 75 and the pid of the holder, if another process has it; 74 if the file system
            does not let us: it is read-only, or fails.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        failed = error.errno in (errno.EROFS, errno.EIO)
        raise ExitError(
            Exit.LOG_FAILED if failed else Exit.CONFIGURATION,
            f"cannot lock {path}: {error.strerror}; mend the file system (dmesg says what happened"
            " to it), or choose another directory",
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise ExitError(
            Exit.TRY_AGAIN,
            f"cannot use {what or path.parent}: in use by pid {holder}; stop that one or choose"
            " another",
        ) from None
    # The lock is what counts: a full disk keeps the pid out, not the daemon.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor
