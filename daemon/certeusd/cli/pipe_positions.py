"""The position file of `certeus pipe --follow`: how far each generation of a log file is durable.

A *generation* is one file that has been, or is, at the path: rotation makes the next one. Each has
a random `token`; a line's event id is `TOKEN:BYTE:CRC`, so that a line which is offered again after
a crash is the same event. The token is synced before the first line is offered, and found again by
inode and content: the digest of the first bytes, and of those before the position. The device's
number is not compared, for a reboot may change it.

Written as a whole beside it, synced, renamed, and the directory synced. Who has `FILE.lock` locked
is the only one who writes.
"""

import hashlib
import os
import re
import secrets
from collections.abc import Mapping
from pathlib import Path

import msgspec

from certeusd import systemd
from certeusd.cli.pipe_session import Manner
from certeusd.exits import Exit, ExitError
from certeusd.supervisor import locks

VERSION = 1
HEAD_BYTES = 1024
TAIL_BYTES = 256
SYSTEM_DIR = Path("/var/lib/certeus-pipe")


class Generation(msgspec.Struct, forbid_unknown_fields=True):
    """One file that was at the path."""

    token: str
    inode: int
    directory: str
    """Where it was found, links resolved: rotated files are looked for there, too."""
    position: int = 0
    """All lines before this byte have a verdict."""
    head_bytes: int = 0
    head: str = ""
    """Digest of the first `head_bytes`: of all that was offered, up to 1024."""
    tail: str = ""
    """Digest of the (at most 256) bytes before the position."""
    mtime_ns: int = 0
    """As it was while the file was the one at the path."""
    read_out: bool = False
    """Rotated away, and all of it had a verdict when it was last looked at."""
    done: bool = False
    """Read out, and quiet for so long that it is watched no more; kept to know it again."""


class Positions(msgspec.Struct, forbid_unknown_fields=True):
    """What the file holds."""

    version: int
    path: str
    manner: Manner
    boot: str
    """Of which boot of the kernel it is."""
    clean: bool
    """The last run ended with everything settled."""
    generations: list[Generation]
    """Oldest first; the last one was at the path."""
    seq: int = 0
    """Of the newest line that had a verdict; 0 if none had one."""


def digest(part: bytes) -> str:
    """Return what stands for some bytes of a file."""
    return hashlib.sha256(part).hexdigest()


def boot_id() -> str:
    """Return what is another one after each boot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def new_generation(inode: int, directory: str) -> Generation:
    """Return one of which nothing is read."""
    return Generation(secrets.token_hex(16), inode, directory)


def default_file(path: str, environ: Mapping[str, str] = os.environ) -> Path:
    """Return where the position of a file is kept, unless it is said.

    A service with `StateDirectory=` has it there, others below `$XDG_STATE_HOME`, root in
    /var/lib/certeus-pipe.
    """
    home = environ.get("XDG_STATE_HOME")
    given = systemd.state_directory(environ)
    if given is not None:
        directory = Path(given)
    elif home:
        directory = Path(home) / "certeus" / "pipe"
    elif os.geteuid() == 0:
        directory = SYSTEM_DIR
    else:
        directory = Path.home() / ".local" / "state" / "certeus" / "pipe"
    name = re.sub(r"[^A-Za-z0-9._-]", "_", Path(path).name)[:64]
    return directory / f"{name}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}.json"


class PositionFile:
    """The file, ours until `close`."""

    def __init__(self, file: Path) -> None:
        """Lock it.

        Raises:
            ExitError: 75 and the pid, if another one has it; else what the file system refuses.
        """
        self.file = file
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise ExitError(
                Exit.NOT_ALLOWED if isinstance(error, PermissionError) else Exit.FAILED,
                f"cannot keep positions in {file.parent}: {error.strerror}; give --state",
            ) from error
        self._lock = locks.hold(file.with_name(file.name + ".lock"), str(file))

    def close(self) -> None:
        """Leave it to others."""
        os.close(self._lock)

    def load(self) -> Positions | None:
        """Return what it holds; None when there is none yet.

        Raises:
            ExitError: it cannot be read, or is none.
        """
        try:
            found = msgspec.json.decode(self.file.read_bytes(), type=Positions)
            if found.version == VERSION:
                return found
            what = f"its version is {found.version}"
        except FileNotFoundError:
            return None
        except OSError as error:
            what = error.strerror or str(error)
        except (msgspec.DecodeError, ValueError) as error:
            what = f"it is no position file: {error}"
        raise ExitError(
            Exit.CONFIGURATION,
            f"cannot go on from {self.file}: {what}; mend it, or remove it to append everything"
            " again",
        )

    def save(self, positions: Positions) -> None:
        """Replace what it holds; durable when this returns.

        Raises:
            ExitError: it cannot be written; the old content stands.
        """
        new = self.file.with_name(self.file.name + ".new")
        try:
            with new.open("wb") as file:
                file.write(msgspec.json.encode(positions) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            new.replace(self.file)
            directory = os.open(self.file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise ExitError(
                Exit.FAILED,
                f"cannot write {self.file}: {error.strerror}; make room there or give --state, then"
                " start it again: nothing is lost or doubled",
            ) from error
