"""Every failpoint of a daemon: armed one at a time, and brought about where it does not come alone.

All are named in the environment of the daemon, each with a flag file of its own. A failpoint whose
flag is there is asleep; to take the flag away arms it, and the process that dies there puts it
back. How a name is brought about follows from the name (`means_of`), so a new one needs nothing
here unless ordinary work under load never passes it.
"""

import contextlib
import fcntl
import os
import signal
import stat
import struct
from collections.abc import Callable, Generator
from pathlib import Path

from certeusd._native import FAILPOINTS
from certeusd.failpoint import NAMES
from support import processes
from support.daemon import Daemon
from support.waiting import wait_until

ALL = (*FAILPOINTS, *NAMES)
SEGMENT_BYTES = 4 << 20
ALIGN = 4096
SALT_AT = 40
GROUP = struct.Struct("<4sI3Q3I")
"""Magic, CRC; salt, group, first seq; count, bytes of entries and of records."""


def means_of(name: str) -> str:
    """What has to be done so that a process passes the failpoint."""
    if "-leaf" in name:
        return "first"
    if "-dead-letter" in name or name == "flush-after-gap":
        return "refused"
    if name.startswith("log-start-") or name.endswith(("-recovered", "-welcome")):
        return "start"
    if name.startswith(("log-keeper-segment-write", "log-keeper-segment-sync")):
        return "full"
    if name.startswith("log-keeper-segment-rename"):
        return "full"
    if name.startswith("log-keeper-spare-unlink"):
        return "no-space"
    return "flow"


class Flags:
    """The flag files, one a failpoint."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in ALL:
            self.path(name).touch()

    def path(self, name: str) -> Path:
        return self.folder / name

    def environment(self) -> dict[str, str]:
        return {"CERTEUS_FAILPOINT": ",".join(f"{name}=1@{self.path(name)}" for name in ALL)}

    def arm(self, name: str) -> None:
        self.path(name).unlink()

    def is_hit(self, name: str) -> bool:
        """Whether the process has died there since it was armed."""
        return self.path(name).exists()


# --- the log's directory ---------------------------------------------------------------------


def log_dir(daemon: Daemon) -> Path:
    return daemon.state_dir / "log"


def segments(daemon: Daemon) -> list[Path]:
    return sorted(log_dir(daemon).glob(f"{'[0-9]' * 20}.log"))


def is_spare(path: Path) -> bool:
    """A file without a header yet."""
    try:
        with path.open("rb") as file:
            return not any(file.read(ALIGN))
    except FileNotFoundError:
        return False


def newest(daemon: Daemon) -> Path:
    """The newest segment that was begun."""
    return [path for path in segments(daemon) if not is_spare(path)][-1]


def numbered(daemon: Daemon, ahead: int, ending: str) -> Path:
    """A name so many numbers behind the newest segment."""
    return log_dir(daemon) / f"{int(newest(daemon).stem) + ahead:020}.{ending}"


def groups(path: Path, at_most: int = 1 << 30) -> tuple[int, int, int]:
    """The groups of a segment, up to so many; where they end, and the segment's salt."""
    count, at = 0, ALIGN
    with path.open("rb") as file:
        content = file.read() if at_most > 2 else file.read(1 << 20)
    (salt,) = struct.unpack_from("<Q", content, SALT_AT)
    while count < at_most and at + GROUP.size <= len(content):
        magic, _, group_salt, _, _, _, entries, records = GROUP.unpack_from(content, at)
        if magic != b"GRUP" or group_salt != salt:
            break
        at += -(-(128 + entries + records) // ALIGN) * ALIGN
        count += 1
    return count, at, salt


def tear(path: Path) -> None:
    """Leave the beginnings of a group behind the last one, as a power cut does."""
    _, at, salt = groups(path)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"GRUP" + bytes(4) + struct.pack("<Q", salt) + b"torn" * 3000)


# --- what brings a failpoint about ---------------------------------------------------------------


@contextlib.contextmanager
def stopped(pids: list[int]) -> Generator[None]:
    """Processes that stand still meanwhile."""
    held = processes.held(pids)
    try:
        for process in held:
            process.send(signal.SIGSTOP)
        yield
    finally:
        for process in held:
            process.send(signal.SIGCONT)
            process.close()


@contextlib.contextmanager
def log_writer_away(daemon: Daemon) -> Generator[None]:
    """The log writer is dead, and nobody starts another one meanwhile."""
    wait_until("log writer", lambda: processes.find(daemon, "log"))
    with stopped(processes.find(daemon, "supervisor")):
        pids = processes.find(daemon, "log")
        for victim in processes.held(pids):
            victim.send(processes.SIGKILL)
            victim.close()
        wait_until("death", lambda: not any(processes.command(pid) for pid in pids))
        yield


def prepare_start(daemon: Daemon, name: str) -> None:
    """Make the log's directory such that the next start passes the failpoint."""
    if "-quarantine-" in name:
        tear(newest(daemon))
    if name.startswith(("log-start-trim-truncate", "log-start-trim-rename")):
        (log_dir(daemon) / "trim").unlink()
    if "-sidecar-unlink" in name:
        numbered(daemon, 50, "keys").touch()
    if "-segment-unlink" in name:
        numbered(daemon, 9, "log").write_bytes(bytes(5000))
    spares = [path for path in segments(daemon) if is_spare(path)]
    if "-spare-" in name:
        # A spare that was made and is gone may have been begun: only without the record is it none.
        (log_dir(daemon) / "trim").unlink(missing_ok=True)
        for path in spares:
            path.unlink()
    elif not any(path.stat().st_size == SEGMENT_BYTES for path in spares):
        with numbered(daemon, 1, "log").open("ab") as file:
            file.truncate(SEGMENT_BYTES)


def restart(daemon: Daemon, flags: Flags, name: str, work: Callable[[], object]) -> None:
    """Kill the log writer, which has logged something; its successor meets the failpoint."""

    def has_logged() -> bool:
        work()
        return groups(newest(daemon), 2)[0] == 2

    wait_until("group of this life", has_logged, 60)
    with contextlib.ExitStack() as until_hit:
        with log_writer_away(daemon):
            prepare_start(daemon, name)
            flags.arm(name)
            if "-lock-read_at" in name:
                # Who holds the lock is asked only by who does not get it.
                lock = until_hit.enter_context((log_dir(daemon) / "LOCK").open("r+b"))
                fcntl.flock(lock, fcntl.LOCK_EX)
        if "-lock-read_at" in name:
            wait_until("death of who asks", lambda: flags.is_hit(name))


def fill(daemon: Daemon, flags: Flags, name: str, work: Callable[[], object]) -> None:
    """Hold the flusher until the log is full: the next segment is one that is let go."""
    wait_until("flusher", lambda: processes.find(daemon, "flush"))

    def is_full() -> bool:
        work()
        return any(reason["code"] == "log-full" for reason in daemon.status()["reasons"])

    with stopped(processes.find(daemon, "flush")):
        wait_until("full log", is_full, 90)
        flags.arm(name)


def take_space(daemon: Daemon, flags: Flags, name: str, work: Callable[[], object]) -> None:
    """The next spare cannot be written: its name is that of a full device."""
    making = log_dir(daemon) / "next"

    def is_made() -> bool:
        work()
        return not making.exists() and any(is_spare(path) for path in segments(daemon))

    wait_until("spare", is_made, 90)
    os.mknod(making, stat.S_IFCHR | 0o600, os.makedev(1, 7))
    flags.arm(name)


def give_space(daemon: Daemon) -> None:
    making = log_dir(daemon) / "next"
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISCHR(making.stat().st_mode):
            making.unlink()
