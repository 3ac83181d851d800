"""A file system whose power can be cut: ext4 on a loop device, and its shutdown ioctl."""

import fcntl
import os
import struct
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from support.daemon import scratch_dir
from support.waiting import wait_until

EXT4_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2


class PowerCutDisk:
    """A mounted ext4 image. After :meth:`cut`, only what was synced is there."""

    def __init__(self, image: Path, mount_point: Path) -> None:
        self.image = image
        self.path = mount_point

    def mount(self) -> None:
        subprocess.run(["mount", "-o", "loop", self.image, self.path], check=True)
        self.path.chmod(0o755)

    def unmount(self) -> None:
        def gone() -> bool:
            done = subprocess.run(["umount", self.path], check=False, capture_output=True)
            return done.returncode == 0

        wait_until("unmounted file system", gone)

    def cut(self) -> None:
        """Cut the power: nothing that is not on disk yet will ever be."""
        fd = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)


@contextmanager
def power_cut_disk(mebibytes: int = 1024) -> Generator[PowerCutDisk]:
    """An ext4 of its own. Needs root and a loop device."""
    with scratch_dir("certeus-power-") as root:
        image, mount_point = root / "disk.img", root / "disk"
        mount_point.mkdir()
        with image.open("wb") as file:
            file.truncate(mebibytes << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
        disk = PowerCutDisk(image, mount_point)
        disk.mount()
        try:
            yield disk
        finally:
            disk.unmount()
