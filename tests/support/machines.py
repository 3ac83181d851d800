"""Fresh machines of each Debian suite, with the packages that were built for it at hand."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from support import systemd_box
from support.systemd_box import Box

ROOT = Path(__file__).resolve().parents[2]
TREES = ROOT / "target" / "trees"
PACKAGES = ROOT / "target" / "deb"
SUITES = {"bookworm": (), "trixie": ("--cgroup", "v2")}
"""Suites, and how their systemd is booted."""


class Machine(NamedTuple):
    """Where a box comes from."""

    suite: str

    @contextmanager
    def booted(self, disk: Path) -> Generator[Box]:
        """A fresh machine for the length of a block.

        Args:
            disk: becomes /var/lib/certeus; the overlay is memory, where every sync would be free.
        """
        options = [
            "--lower", str(TREES / self.suite), *SUITES[self.suite],
            "--bind", f"{disk}:/var/lib/certeus", "--ro-bind", f"{PACKAGES / self.suite}:/mnt/deb",
            "--ro-bind", f"{ROOT / 'tests' / 'support'}:/mnt/support",
        ]  # fmt: skip
        with systemd_box.booted(f"certeus{os.getpid()}", *options) as box:
            yield box

    def package(self, name: str) -> str:
        """Path of a package inside."""
        (found,) = (PACKAGES / self.suite).glob(f"{name}_*.deb")
        return f"/mnt/deb/{found.name}"


def install(box: Box, *packages: str) -> str:
    """Let apt install files, as an operator does whom nobody asks questions; what it printed."""
    return apt(box, "install", *packages)


def apt(box: Box, verb: str, *packages: str) -> str:
    """Run apt-get, which must succeed."""
    quiet = "DEBIAN_FRONTEND=noninteractive"
    return box.run("env", quiet, "apt-get", "-q", "--yes", verb, *packages)
