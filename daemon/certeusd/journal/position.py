"""Where the door goes on: `<state-dir>/doors/journal`, replaced whole and synced.

It names an entry by its cursor. What is before that entry is durable in the log, or was never
wanted; what is behind it may be durable too, since the file is written after the log was.
"""

import os
from pathlib import Path
from typing import Annotated

import msgspec

VERSION = 1
DIRECTORY, NAME = "doors", "journal"

Cursor = Annotated[str, msgspec.Meta(pattern=r"\A[!-~]*\Z", max_length=255)]


class Position(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An entry of the journal."""

    cursor: Cursor
    """Empty: the oldest entry, whichever that is."""
    taken: bool
    """Whether it is in the log; else it is the next one to take."""
    version: int = VERSION


OLDEST = Position("", taken=False)


class DamagedError(Exception):
    """The file is no position; its text says why."""


class PositionFile:
    """The file of one state directory. One process uses it at a time."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / DIRECTORY / NAME

    def load(self) -> Position | None:
        """Return what it holds; None when there is none yet.

        Raises:
            DamagedError: it holds something else.
            OSError: it cannot be read.
        """
        try:
            found = msgspec.json.decode(self.path.read_bytes(), type=Position)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, ValueError) as error:
            raise DamagedError(str(error)) from error
        if found.version != VERSION:
            raise DamagedError(f"its version is {found.version}")
        return found

    def save(self, position: Position) -> None:
        """Replace what it holds; durable when this returns.

        Raises:
            OSError: it cannot be written; the old content stands.
        """
        if not self.path.parent.exists():
            self.path.parent.mkdir(mode=0o700)
            _sync_directory(self.path.parent.parent)
        new = self.path.with_name(f"{NAME}.new")
        with new.open("wb") as file:
            file.write(msgspec.json.encode(position) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)
        _sync_directory(self.path.parent)


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
