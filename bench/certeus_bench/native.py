"""Runs measuring programs: those of `bench/native`, and producers that a native reader measures.

A program gets one JSON object as its only argument and prints one `Measurement`. Each dies with
this process, whatever ends it.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import msgspec

from certeus_bench.results import Measurement, Scope
from certeus_bench.scenario import AbsentError, Context, Scenario
from certeusd.pdeathsig import set_parent_death_signal

BENCH = Path(__file__).resolve().parents[1]
BIN = BENCH.parent / "target" / "bench" / "release"
INSTALLS = "bench/install/native.sh builds it"
SHARED_MEMORY = Path("/dev/shm")
PATIENCE_S = 120.0
LINES_SHOWN = 10

Value: TypeAlias = str | int | float | bool
Command: TypeAlias = Sequence[str | Path]


class ProgramError(Exception):
    """A measuring program failed; the message holds the end of what it said."""


class Produced(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a producer tells at its end of all that it wrote, warm-up included."""

    events: int
    written_sum: int


def scenario(
    name: str, system: str, what: str, program: Callable[[], Path], **settings: Value
) -> Scenario:
    """A program that measures two processes, or one, and memory between them.

    Args:
        name: of the `Result`, as ``system`` and ``what``.
        system: whose queue it is.
        what: is done.
        program: finds it; raises AbsentError.
        settings: which it is told.
    """

    def measure(context: Context) -> Measurement:
        with shared_memory(context):
            return decode(run([program(), argument(context, **settings)], context))

    return Scenario(
        name=name, system=system, scope=Scope.RING, what=what, measure=measure, settings=settings
    )


def produced(
    name: str, system: str, what: str, reader: Callable[[], Path], producer: Callable[[], Command],
    **settings: Value,
) -> Scenario:  # fmt: skip
    """A native reader, whose measurement is the result, and a producer that connects to it.

    Args:
        name: of the `Result`, as ``system`` and ``what``.
        system: whose queue it is.
        what: is done.
        reader: finds it; raises AbsentError.
        producer: is what `run_pair` takes.
        settings: which the producer is told; ``payload_bytes`` among them.
    """

    def measure(context: Context) -> Measurement:
        read, told = run_pair(reader(), producer(), context, **settings)
        written_sum = msgspec.json.decode(told, type=Produced).written_sum
        bytes_each = int(settings["payload_bytes"])
        return msgspec.structs.replace(read, written_sum=written_sum, bytes_each=bytes_each)

    return Scenario(
        name=name, system=system, scope=Scope.RING, what=what, measure=measure, settings=settings
    )


def run_pair(
    reader: Path, producer: Command, context: Context, **settings: Value
) -> tuple[Measurement, bytes]:
    """Run a native reader with a listening socket as its input, and a producer that connects to it.

    Args:
        reader: Program.
        producer: Command; one more argument is added, a JSON object with ``socket``, ``cpu``,
            ``seconds`` and the settings.
        context: Of the run.
        settings: For the producer.

    Returns:
        What the reader measured, and what the producer printed.

    Raises:
        ProgramError: one of them failed.
    """
    path = context.home / "ingest.sock"
    with shared_memory(context), socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen(1)
        command: Command = [reader, argument(context, payload_bytes=settings["payload_bytes"])]
        with started(command, stdin=listener) as reading:
            told = run([*producer, producer_argument(context, path, **settings)], context)
            measurement = decode(finish(reading, command, context))
    return measurement, told


@contextmanager
def shared_memory(context: Context) -> Generator[Path, None, None]:
    """A directory in memory, for as long as the block; what is named after it goes with it.

    Programs may also put there what begins with the name of their home.
    """
    directory = SHARED_MEMORY / context.home.name
    directory.mkdir()
    try:
        yield directory
    finally:
        shutil.rmtree(directory)
        for left in SHARED_MEMORY.glob(f"{directory.name}-*"):
            left.unlink()


def decode(output: bytes) -> Measurement:
    """Return what a program measured."""
    return msgspec.json.decode(output, type=Measurement)


def python(module: str) -> list[str]:
    """Return the command of a Python program of this package."""
    return [sys.executable, "-m", f"certeus_bench.{module}"]


def producer_argument(context: Context, path: Path, **settings: Value) -> str:
    """Return what a producer is told: it appends for longer than its reader measures."""
    seconds = context.warmup_seconds + context.seconds + 0.5
    told = {**settings, "socket": str(path), "cpu": context.cpus[0], "seconds": seconds}
    return msgspec.json.encode(told).decode()


def argument(context: Context, **settings: Value) -> str:
    """Return what a native program is told."""
    told: dict[str, Value | tuple[int, ...]] = {
        **settings,
        "warmup_seconds": context.warmup_seconds,
        "seconds": context.seconds,
        "cpus": context.cpus,
        "home": str(context.home),
    }
    return msgspec.json.encode(told).decode()


def built(program: str) -> Callable[[], Path]:
    """A program of `bench/native`, to be found when it is run."""
    return lambda: find(BIN / program, INSTALLS)


def find(path: Path, installs: str) -> Path:
    """Return the path of a program.

    Raises:
        AbsentError: it is not there.
    """
    if not path.exists():
        raise AbsentError(f"cannot find {path}; {installs}")
    return path


@contextmanager
def started(
    command: Command, stdin: socket.socket | None = None
) -> Generator["subprocess.Popen[bytes]", None, None]:
    """A program for as long as the block, its output kept. One of Python finds this package."""
    paths = [str(BENCH), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL if stdin is None else stdin.fileno(),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
        preexec_fn=_die_with_parent,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def _die_with_parent() -> None:
    set_parent_death_signal(signal.SIGKILL)


def run(command: Command, context: Context) -> bytes:
    """Run a program to its end and return its output.

    Raises:
        ProgramError: it failed, or did not end in time.
    """
    with started(command) as process:
        return finish(process, command, context)


def finish(process: "subprocess.Popen[bytes]", command: Command, context: Context) -> bytes:
    """Wait for a program's end and return its output.

    Raises:
        ProgramError: it failed, or did not end in time.
    """
    name = Path(command[0]).name
    timeout = context.warmup_seconds + context.seconds + PATIENCE_S
    try:
        output, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise ProgramError(f"cannot measure: {name} did not end within {timeout} s") from error
    if process.returncode != 0:
        said = "\n".join(errors.decode(errors="replace").splitlines()[-LINES_SHOWN:])
        raise ProgramError(
            f"cannot measure: {name} ended with {process.returncode}; it said:\n{said}"
        )
    return output
