"""Where verbs write: what nobody takes ends a verb with one line, and who reads no stderr nothing.

A full disk, a terminal that has gone and a closed descriptor are no bugs: no traceback for them.
What a screen or a locale cannot show is written as an escape.
"""

import io
import os
import sys
from typing import TYPE_CHECKING, TextIO

from certeusd.exits import Exit, ExitError
from certeusd.human import harmless_json

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

STDOUT, STDERR = 1, 2


class OutputError(ExitError):
    """Standard output takes nothing more."""


class _Stdout(io.FileIO):
    def write(self, b: "ReadableBuffer", /) -> int:
        try:
            return super().write(b)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(
                Exit.FAILED, f"cannot write standard output: {error.strerror}"
            ) from error


class _Stderr(io.FileIO):
    def write(self, b: "ReadableBuffer", /) -> int:
        try:
            return super().write(b)
        except OSError:
            return memoryview(b).nbytes


def begin() -> None:
    """Write through these from now on; one that is closed takes everything and shows nothing."""
    for descriptor in (STDOUT, STDERR):
        try:
            os.fstat(descriptor)
        except OSError:
            give_up(descriptor)
    sys.stdout = _text(_Stdout(STDOUT, "w", closefd=False), sys.stdout)
    sys.stderr = _text(_Stderr(STDERR, "w", closefd=False), sys.stderr)


def give_up(descriptor: int = STDOUT) -> None:
    """Write nothing more: neither does the interpreter, when it ends, what is left."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if nowhere != descriptor:
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def write_json(lines: bytes) -> None:
    """Write JSON to standard output; what strangers wrote in it cannot steer a terminal."""
    sys.stdout.flush()
    sys.stdout.buffer.write(harmless_json(lines) if sys.stdout.isatty() else lines)
    sys.stdout.buffer.flush()


def _text(raw: io.FileIO, before: TextIO | None) -> io.TextIOWrapper:
    encoding = (before and before.encoding) or "utf-8"
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding, "backslashreplace", line_buffering=raw.isatty()
    )
