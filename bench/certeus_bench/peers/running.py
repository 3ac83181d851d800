"""Processes of a peer: started together, never left behind, their processor time added up."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import psutil

from certeus_bench.peers import installed
from certeusd.pdeathsig import set_parent_death_signal

READY_TIMEOUT_S = 60.0
READY_POLL_S = 0.01
STOP_TIMEOUT_S = 20.0
BEGIN_DELAY_NS = 50_000_000
LINES_SHOWN = 10

T = TypeVar("T")


class PeerError(Exception):
    """A peer did not do what it should; the message says which and what it said."""


def _die_with_parent() -> None:
    set_parent_death_signal(signal.SIGKILL)


def cpu_seconds(processes: Iterable[psutil.Process]) -> float:
    """User and system time of the processes and of all that they started, ended ones included."""
    total = 0.0
    for root in processes:
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                # Own, and of children that have ended and were waited for.
                total += sum(process.cpu_times()[:4])
    return total


def meter(processes: Sequence[psutil.Process]) -> Callable[[], float]:
    """What reads their `cpu_seconds`."""
    return partial(cpu_seconds, processes)


@contextmanager
def server(
    command: Sequence[str], log: Path, is_ready: Callable[[], bool]
) -> Generator[psutil.Process, None, None]:
    """A peer's server for the length of a block, entered when it is ready.

    Args:
        command: what to run.
        log: takes what it says.
        is_ready: asked again and again.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            env=installed.environment(), preexec_fn=_die_with_parent, start_new_session=True,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise PeerError(f"cannot start {command[0]}: {_last_lines(log)}")
            time.sleep(READY_POLL_S)
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _last_lines(log: Path) -> str:
    return " | ".join(log.read_text(errors="replace").splitlines()[-LINES_SHOWN:])


class Program:
    """One process that offers or takes events: says ``ready``, is told to begin, answers.

    A producer says ``done`` when its work is, and keeps still until it is asked for its answer:
    adding up and ending are work, too, and would take the processors from those still measured.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=installed.environment(), preexec_fn=_die_with_parent, start_new_session=True,
        )  # fmt: skip

    def wait_ready(self) -> None:
        """Wait until it has connected."""
        assert self._process.stdout is not None
        if (line := self._process.stdout.readline().strip()) != "ready":
            raise PeerError(f"cannot begin {self._name}: it said {line!r}")

    def tell(self, number: int) -> None:
        """One line for it to read; that it has ended is told by `answer`."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(f"{number}\n")
            self._process.stdin.flush()

    def wait_done(self) -> None:
        """Wait until it keeps still; that it has ended instead is told by `answer`."""
        assert self._process.stdout is not None
        if (line := self._process.stdout.readline().strip()) not in {"done", ""}:
            raise PeerError(f"{self._name} has not kept still at its end: it said {line!r}")

    def answer(self, kind: type[T]) -> T:
        """What it printed at its end, on its last line."""
        text, _ = self._process.communicate()
        if self._process.returncode != 0:
            raise PeerError(f"{self._name} ended with {self._process.returncode}: see above")
        return msgspec.json.decode(text.rstrip().rpartition("\n")[2], type=kind)

    def kill(self) -> None:
        """Whatever it is doing."""
        self._process.kill()
        self._process.communicate()

    @property
    def _name(self) -> str:
        return " ".join(os.path.basename(part) for part in self._command[:3])


@contextmanager
def programs(commands: Iterable[Sequence[str]]) -> Generator[list[Program], None, None]:
    """All of them, connected; none is left at the end of the block."""
    with ExitStack() as stack:
        made: list[Program] = []
        for command in commands:
            made.append(Program(command))
            stack.callback(made[-1].kill)
        for program in made:
            program.wait_ready()
        yield made


def begin(made: Iterable[Program]) -> int:
    """Have all of them begin at one time, which is returned (monotonic, ns)."""
    begin_ns = time.monotonic_ns() + BEGIN_DELAY_NS
    for program in made:
        program.tell(begin_ns)
    return begin_ns


def answers(made: Sequence[Program], kind: type[T]) -> list[T]:
    """What each of them printed at its end, asked when all are done."""
    for program in made:
        program.wait_done()
    return [program.answer(kind) for program in made]


def run(command: Sequence[str], kind: type[T]) -> T:
    """What a program prints that waits for nothing."""
    program = Program(command)
    try:
        return program.answer(kind)
    finally:
        program.kill()
