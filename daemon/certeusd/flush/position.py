"""Where the flusher is: as PostgreSQL has it, and as the log writer may rely on after a crash.

PostgreSQL's `flush_position` is the truth. The file `followers/postgres` follows it and is always
synced before the log writer is allowed to trim; it may lag behind, never run ahead.
"""

import json
import os
import uuid
from pathlib import Path
from typing import NamedTuple

from certeusd.failpoint import failpoint

FOLLOWER = "postgres"
_FILE_VERSION = 1


class Position(NamedTuple):
    """All up to `seq` is in PostgreSQL; `group` (0: none) was the last group, `root` its root."""

    group: int
    seq: int
    root: bytes
    epoch: int

    @staticmethod
    def start() -> "Position":
        """Return the position before the first event."""
        return Position(0, 0, bytes(32), 0)


def has_confirmed(path: Path, log_uuid: uuid.UUID) -> bool:
    """Whether the position file is of a log of this name."""
    try:
        return bool(json.loads(path.read_bytes())["log_uuid"] == str(log_uuid))
    except (OSError, ValueError, KeyError, TypeError):
        return False


def write_file(path: Path, log_uuid: uuid.UUID, position: Position) -> None:
    """Replace the position file; durable when this returns. Blocks for a sync or two."""
    text = json.dumps(
        {
            "version": _FILE_VERSION,
            "follower": FOLLOWER,
            "log_uuid": str(log_uuid),
            "group": position.group,
            "seq": position.seq,
            "root": position.root.hex(),
            "epoch": position.epoch,
        }
    )
    path.parent.mkdir(mode=0o750, exist_ok=True)
    fresh = path.with_name(path.name + ".tmp")
    failpoint("flush-before-position-write")
    with fresh.open("w") as file:
        file.write(text + "\n")
        file.flush()
        failpoint("flush-after-position-write")
        os.fsync(file.fileno())
    failpoint("flush-after-position-sync")
    fresh.rename(path)
    failpoint("flush-after-position-rename")
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    failpoint("flush-after-position-dirsync")
