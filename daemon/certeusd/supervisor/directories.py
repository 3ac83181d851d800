"""What the daemon keeps on disk before any child runs: directories, and the log's key."""

import os
import secrets

from certeusd import doors
from certeusd.exits import Exit, ExitError
from certeusd.paths import Paths

RESTORING = "restoring"
"""What a restore unpacks into, below the state directory; gone when it is over."""
MOVING = "restoring.whole"
"""Its name as soon as all is unpacked and durable, and while it is moved into place."""


def make(paths: Paths) -> None:
    """Make both directories and what is in them; what exists keeps its permissions.

    A state directory that we make may be entered by all, because the server of the embedded
    PostgreSQL has its socket inside; nothing else in it can be read by others.
    """
    refuse_half_restored(paths)
    try:
        for directory, mode in ((paths.state_dir, 0o711), (paths.runtime_dir, 0o755)):
            for missing in reversed([directory, *directory.parents]):
                if not missing.exists():
                    missing.mkdir(exist_ok=True)
                    missing.chmod(mode)  # Whatever the umask.
        for inner in (paths.log, paths.followers, paths.quarantine, paths.log_key.parent):
            inner.mkdir(mode=0o700, exist_ok=True)
        (paths.runtime_dir / doors.DIRECTORY).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ExitError(
            Exit.CONFIGURATION,
            f"cannot make {error.filename}: {error.strerror}; give --state-dir and --runtime-dir"
            " that this user may write",
        ) from error


def refuse_half_restored(paths: Paths) -> None:
    """Exit 78 beside a restore that was broken off: what is here is not whole.

    Before anything is made, for the message; and when the lock is held: a restore may have begun,
    and have been killed, since.
    """
    if is_half_restored(paths):
        raise ExitError(
            Exit.CONFIGURATION,
            f"cannot use {paths.state_dir}: a restore into it was not finished; run certeus backup"
            " restore again",
        )


def is_half_restored(paths: Paths) -> bool:
    """Whether a restore was broken off here, or is at it."""
    return any((paths.state_dir / name).exists() for name in (RESTORING, MOVING))


def make_log_key(paths: Paths) -> None:
    """Make the log's secret, once: whole and synced before it has its name."""
    if paths.log_key.exists():
        return
    making = paths.log_key.with_suffix(".new")
    making.unlink(missing_ok=True)
    descriptor = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, secrets.token_bytes(32))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    making.rename(paths.log_key)
    directory = os.open(paths.log_key.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
