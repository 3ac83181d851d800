"""Makes single system calls of a running process fail, by strace.

The calls are found by name, in all threads; strace's own log says which of them it made fail. When
the block ends, strace lets the process go, and what it does succeeds again.
"""

import os
import signal
import subprocess
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from support.waiting import wait_until

MARKS = ("(INJECTED)", "(DELAYED)")


@dataclass(frozen=True)
class Fault:
    """Which calls fail, how, and the how manieth of them (``3``, ``3+``, ``3..5``)."""

    calls: str
    how: str
    when: str

    def __str__(self) -> str:
        return f"{self.calls}:{self.how}:when={self.when}"


class Tracer:
    """One strace at work."""

    def __init__(self, pid: int, told: Path) -> None:
        self.pid = pid
        self._told = told

    def injected(self) -> list[str]:
        """The calls that it made fail, or wait."""
        try:
            text = self._told.read_text(errors="replace")
        except FileNotFoundError:
            return []
        return [line for line in text.splitlines() if line.endswith(MARKS)]


def _is_traced(pid: int) -> bool:
    """Whether somebody traces every thread of it; true, too, when it has ended."""
    try:
        tasks = [
            Path(f"/proc/{pid}/task/{task}/status") for task in os.listdir(f"/proc/{pid}/task")
        ]
        return all("TracerPid:\t0\n" not in task.read_text() for task in tasks)
    except OSError:
        return True


@contextmanager
def injecting(pid: int, fault: Fault, told: Path) -> Generator[Tracer]:
    """Make calls of a process fail for the length of a block."""
    told.unlink(missing_ok=True)
    command = [
        "strace", "-f", "-qq", "-o", str(told), "-p", str(pid), "-e", f"trace={fault.calls}",
        "-e", "signal=none", "-e", f"inject={fault}",
    ]  # fmt: skip
    null = subprocess.DEVNULL
    strace = subprocess.Popen(command, stdin=null, stdout=null, stderr=null, process_group=0)
    try:
        wait_until("traced process", lambda: strace.poll() is not None or _is_traced(pid))
        yield Tracer(pid, told)
    finally:
        strace.send_signal(signal.SIGTERM)
        try:
            strace.wait(timeout=5)
        except subprocess.TimeoutExpired:
            # It may wait for a process that is just ending; the kernel lets go of what it traced.
            strace.kill()
            strace.wait(timeout=30)
        # One that ends while it begins leaves a child behind, in which it was trying ptrace.
        with suppress(ProcessLookupError):
            os.killpg(strace.pid, signal.SIGKILL)
