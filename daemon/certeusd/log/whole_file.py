"""Small files that are whole or not there, whatever dies while one is written."""

import os
from pathlib import Path


def replace(path: Path, text: str) -> None:
    """Write a file anew; durable when this returns.

    Root writes it for whoever owns the directory: it is the daemon that has to read it.

    Raises:
        OSError: the disk does not take it; the file is as it was.
    """
    beside = path.with_suffix(".new")
    with beside.open("w") as file:
        file.write(text)
        file.flush()
        if os.geteuid() == 0:
            owner = path.parent.stat()
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        os.fsync(file.fileno())
    beside.rename(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
