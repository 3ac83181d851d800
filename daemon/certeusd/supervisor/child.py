"""One life of one child process: how it is made, and how its death is learned.

A child is a fresh interpreter in its own session with nothing open but the standard streams and its
channel. It is made from the main thread, since PDEATHSIG is about the thread that forked. Its death
comes from a pidfd; psutil only measures.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from certeusd import channel, systemd
from certeusd.channel import Channel, Message, Role

SMALL = {"MALLOC_MMAP_THRESHOLD_": "1048576"}
"""For the C library: what is larger than 1 MiB goes back to the kernel when it is freed. Else it
learns from each block that was freed to keep the next, and a process keeps its largest batches.
What the daemon itself was given holds before this."""


def default_command(role: Role) -> list[str]:
    """Return the command line of a child, up to `--channel FD`."""
    return [sys.executable, "-P", "-m", f"certeusd.{role}"]


def watch_exit(
    loop: asyncio.AbstractEventLoop,
    process: subprocess.Popen[bytes],
    last_look: Callable[[], object] = lambda: None,
) -> asyncio.Future[int]:
    """Return a future of the exit code (negative: the signal); it also reaps.

    `last_look` is called between the two, while the kernel still knows what the process used.
    """
    pidfd = os.pidfd_open(process.pid)
    done: asyncio.Future[int] = loop.create_future()

    def readable() -> None:
        loop.remove_reader(pidfd)
        os.close(pidfd)
        with contextlib.suppress(Exception):  # Whatever it finds: who is dead must be reaped.
            last_look()
        code = process.wait()
        if not done.done():
            done.set_result(code)

    loop.add_reader(pidfd, readable)
    return done


class Usage:
    """What a process uses, for as long as it is not reaped; then what it had used."""

    def __init__(self, pid: int) -> None:
        self.process = psutil.Process(pid)
        self.cpu_seconds = 0.0

    def look(self) -> tuple[float, int]:
        """Return processor seconds, and resident bytes."""
        try:
            with self.process.oneshot():
                times, resident = self.process.cpu_times(), self.process.memory_info().rss
        except (psutil.Error, OSError):
            return self.cpu_seconds, 0
        self.cpu_seconds = times.user + times.system
        return self.cpu_seconds, int(resident)


class Child:
    """A running child: its channel, its exit, and what it has told so far."""

    def __init__(
        self,
        role: Role,
        index: int,
        process: subprocess.Popen[bytes],
        end: Channel,
        exited: asyncio.Future[int],
        usage: Usage,
    ) -> None:
        self.role: Role = role
        self.index = index
        self.channel = end
        self.exited = exited
        self.pid = process.pid
        self.ready = False
        self.spawned_at = time.time()
        """To be shown; the clock may be set meanwhile."""
        self.spawned_monotonic = time.monotonic()
        self._process = process
        self._usage = usage

    @property
    def name(self) -> str:
        """`log`, `flush`, `worker-0`, ..."""
        return name_of(self.role, self.index)

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> bool:
        """Send a message; a child that has stopped reading is killed, and replaced as any other.

        Returns:
            Whether it is in the channel.
        """
        try:
            return self.channel.send(message, list(descriptors))
        except BlockingIOError:
            self.kill()
            return False

    def kill(self) -> None:
        """SIGKILL; the death is then learned as any other."""
        if not self.exited.done():
            self._process.send_signal(signal.SIGKILL)

    def pin(self, cpu: int) -> None:
        """Pin the main thread, and what it starts from now on.

        Raises:
            ProcessLookupError: the child is dead.
            OSError: that CPU may not be used any more.
        """
        os.sched_setaffinity(self.pid, {cpu})

    def waits_for_disk(self) -> bool:
        """Whether one of its threads is in an uninterruptible sleep: it cannot even be killed."""
        try:
            states = [
                (thread / "stat").read_text().rpartition(")")[2].split()[0]
                for thread in Path("/proc", str(self.pid), "task").iterdir()
            ]
        except OSError:  # It has just died.
            return False
        return "D" in states

    def measure(self) -> tuple[float, int]:
        """Return CPU percent since the last call, and resident bytes."""
        try:
            with self._usage.process.oneshot():
                percent = self._usage.process.cpu_percent()
                return percent, int(self._usage.process.memory_info().rss)
        except psutil.Error:
            return 0.0, 0

    def used(self) -> tuple[float, int]:
        """Return processor seconds of this life, and resident bytes."""
        return self._usage.look()

    @property
    def ended_cpu_seconds(self) -> float:
        """Processor seconds of this life, once it has ended; its pid may be another's by then."""
        return self._usage.cpu_seconds


def name_of(role: Role, index: int) -> str:
    """How logs and status call a child."""
    return f"worker-{index}" if role == "worker" else role


def spawn(
    loop: asyncio.AbstractEventLoop,
    role: Role,
    index: int,
    command: Sequence[str],
    on_packet: Callable[["Child"], None],
) -> Child:
    """Start a child and watch its channel; the caller sends `Start`."""
    ours, theirs = channel.pair()
    try:
        process = subprocess.Popen(
            [*command, "--channel", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=2,
            close_fds=True,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
            env=SMALL | systemd.child_environment(),
        )
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    usage = Usage(process.pid)
    child = Child(role, index, process, ours, watch_exit(loop, process, usage.look), usage)
    loop.add_reader(ours.fileno(), on_packet, child)
    return child
