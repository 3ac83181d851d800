"""Finds and strikes the processes of a daemon, quickly enough to strike in the middle of work.

A process is held by a pidfd from when it was found, so that a signal never reaches another one
which has got its number meanwhile.
"""

import contextlib
import os
import signal
from collections.abc import Iterable
from pathlib import Path

import psutil

from support.daemon import Daemon


def children(pid: int) -> list[int]:
    """Process numbers of the direct children."""
    try:
        return [int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def command(pid: int) -> str:
    """The command line; empty for a process that has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def tree(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for child in children(pid):
        found += tree(child)
    return found


SIGKILL = signal.SIGKILL


class Process:
    """One process, which may end at any time."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._fd = os.pidfd_open(pid)

    def send(self, signum: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._fd, signum)

    def close(self) -> None:
        os.close(self._fd)


def find(daemon: Daemon, target: str) -> list[int]:
    """Process numbers of a target that live now: a role, ``backend``, ``supervisor`` or ``all``."""
    assert daemon.process is not None
    supervisor = daemon.process.pid
    if target == "supervisor":
        return [supervisor]
    if target == "all":
        return tree(supervisor)
    if target in ("postgres", "backend"):
        postmasters = [pid for pid in children(supervisor) if " -D " in command(pid)]
        if target == "postgres":
            return postmasters
        return [
            child for pid in postmasters for child in children(pid) if "[local]" in command(child)
        ]
    module = f"certeusd.{target}"
    return [pid for pid in children(supervisor) if module in command(pid).split()]


def held(pids: Iterable[int]) -> list[Process]:
    """Those of them that still live."""
    found: list[Process] = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            found.append(Process(pid))
    return found


def rss_bytes(pid: int) -> int:
    """Resident memory that is this process's alone; 0 when it has ended."""
    try:
        info = psutil.Process(pid).memory_info()
    except psutil.Error:
        return 0
    return int(info.rss - info.shared)


def descriptors(pid: int) -> int:
    """Open descriptors; 0 when it has ended."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def leftovers(needle: str, but: Iterable[int] = ()) -> list[str]:
    """Command lines of the processes in which a text occurs, such as a daemon's directory."""
    spared = {os.getpid(), *but}
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [line for pid in pids if pid not in spared and needle in (line := command(pid))]
