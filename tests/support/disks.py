"""Small file systems of a test's own, on loop devices: cut, frozen, filled, made read-only.

They live in a mount namespace of the test: whatever ends it, a kill at its time-out too, the kernel
then takes the mounts and their loop devices away, and no other process ever sees them.
"""

import ctypes
import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.daemon import scratch_dir
from support.waiting import wait_until

CLONE_NEWNS = 0x20000
MS_REC, MS_SLAVE = 0x4000, 1 << 19
SHUTDOWN = 0x8004587D
CUTS = {"default": 0, "logflush": 1, "nologflush": 2}
"""Flags of the ioctl: all is written first, the journal is, nothing is."""
MAKERS = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-m", "0"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
    "btrfs": ["mkfs.btrfs", "-q", "-f"],
}
MEBIBYTES_MIN = {"ext4": 24, "xfs": 300, "btrfs": 128, "tmpfs": 16}
"""Below it mkfs refuses."""

_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass
class Disk:
    """One file system, mounted on ``path``."""

    kind: str
    mebibytes: int
    image: Path
    path: Path

    def mount(self) -> None:
        if self.kind == "tmpfs":
            what = ["-t", "tmpfs", "-o", f"size={self.mebibytes}m", "none"]
        else:
            what = ["-t", self.kind, "-o", "loop", str(self.image)]
        run("mount", *what, str(self.path))
        self.path.chmod(0o755)

    def unmount(self) -> None:
        """Returns when nobody uses it any more and it is gone."""

        def gone() -> bool:
            command = ["umount", str(self.path)]
            return subprocess.run(command, check=False, capture_output=True).returncode == 0

        wait_until(f"unmounted {self.kind}", gone, 60)

    def cut(self, how: str = "nologflush") -> None:
        """Cut the power: what ``how`` leaves unwritten will never be written."""
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", CUTS[how]))
        finally:
            os.close(fd)

    def freeze(self) -> None:
        run("fsfreeze", "--freeze", str(self.path))

    def thaw(self) -> None:
        run("fsfreeze", "--unfreeze", str(self.path))

    def remount(self, option: str) -> "subprocess.CompletedProcess[bytes]":
        """`ro` or `rw`; the kernel may refuse."""
        command = ["mount", "-o", f"remount,{option}", str(self.path)]
        return subprocess.run(command, check=False, capture_output=True)

    def free(self) -> int:
        """Bytes that root can still write."""
        space = os.statvfs(self.path)
        return space.f_bfree * space.f_frsize

    def fill(self, name: str = "filler", leave: int = 0) -> None:
        """Somebody else writes until only ``leave`` bytes are left, or none."""
        block = b"\xa5" * (1 << 20)
        fd = os.open(self.path / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            while (room := self.free() - leave) > 0:
                os.write(fd, block[: min(room, len(block))])
            os.fsync(fd)
        except OSError:
            pass  # full: that was wanted
        finally:
            os.close(fd)

    def make_room(self, name: str = "filler") -> None:
        (self.path / name).unlink()


def run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.decode()}"


def unusable(kind: str) -> str:
    """Why this machine has no file system of a kind; empty when it has."""
    known = [line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines()]
    if kind not in known:
        return f"the kernel has no {kind}"
    if kind in MAKERS and shutil.which(MAKERS[kind][0]) is None:
        return f"{MAKERS[kind][0]} is missing: tools/setup.sh test"
    return ""


@contextmanager
def private_mounts() -> Generator[None]:
    """What is mounted in the block is mounted for this thread and its children only."""
    before, cwd = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY), Path.cwd()
    _checked("unshare", _LIBC.unshare(CLONE_NEWNS))
    try:
        _checked("mount", _LIBC.mount(b"none", b"/", None, MS_REC | MS_SLAVE, None))
        yield
    finally:
        _checked("setns", _LIBC.setns(before, CLONE_NEWNS))
        os.close(before)
        os.chdir(cwd)


def _checked(name: str, result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"cannot {name}")


@contextmanager
def small_disk(kind: str = "ext4", mebibytes: int = 512) -> Generator[Disk]:
    """A file system of its own for the length of a block. Needs root and a loop device."""
    with private_mounts(), scratch_dir("certeus-disk-") as root:
        memory = Disk("tmpfs", max(mebibytes, MEBIBYTES_MIN[kind]) + 8, root, root / "memory")
        disk = Disk(kind, memory.mebibytes - 8, memory.path / "image", root / "disk")
        memory.path.mkdir()
        disk.path.mkdir()
        # The platter is memory: what is cut is the file system's, not the machine's.
        memory.mount()
        if kind in MAKERS:
            with disk.image.open("wb") as file:
                file.truncate(disk.mebibytes << 20)
            run(*MAKERS[kind], str(disk.image))
        disk.mount()
        try:
            yield disk
        finally:
            # A dead file system does not even say that it is mounted: the kernel does.
            if f" {disk.path} " in Path("/proc/thread-self/mounts").read_text():
                disk.unmount()
            memory.unmount()
