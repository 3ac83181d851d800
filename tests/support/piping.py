"""`certeus pipe` as a process, a writer that rotates its file, and what the ledger has of them."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Generator
from pathlib import Path
from typing import IO

from support.daemon import Daemon

ROTATED_MAX = 400


def command(daemon: Daemon, *arguments: str) -> list[str]:
    return [
        sys.executable, "-m", "certeusd.cli", "--runtime-dir", str(daemon.runtime_dir),
        "--state-dir", str(daemon.state_dir), "pipe", *arguments,
    ]  # fmt: skip


@contextlib.contextmanager
def pipe(
    daemon: Daemon, *arguments: str, stdin: int | IO[bytes] = subprocess.DEVNULL
) -> Generator["subprocess.Popen[bytes]"]:
    """One that runs; killed at the end if the test did not end it."""
    process = subprocess.Popen(
        command(daemon, *arguments), stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=daemon.env,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=60)


def ended(process: "subprocess.Popen[bytes]") -> tuple[int, str, str]:
    """Exit code, output and errors of one that ends."""
    out, err = process.communicate(timeout=60)
    return process.returncode, out.decode(), err.decode()


def events(daemon: Daemon, source: str) -> list[dict[str, object]]:
    """All durable events of a source, in the ledger's order."""
    printed = daemon.certeus("tail", "-n", "10000000").stdout
    found = [json.loads(line) for line in printed.splitlines()]
    return [one for one in found if one["source"] == source]


def lines(daemon: Daemon, source: str) -> list[object]:
    """Their data."""
    return [one["data"] for one in events(daemon, source)]


def rotate(path: Path) -> None:
    """As logrotate does without `create`: FILE.1 to FILE.2 and so on, FILE to FILE.1."""
    for number in range(ROTATED_MAX, 0, -1):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(f"{path.name}.{number}").rename(
                path.with_name(f"{path.name}.{number + 1}")
            )
    with contextlib.suppress(FileNotFoundError):
        path.rename(path.with_name(f"{path.name}.1"))


class Writer:
    """Writes numbered lines, often in halves, and rotates its file, until it is told to stop."""

    def __init__(self, path: Path, *, rotate_every: int, pause_s: float) -> None:
        self.path = path
        self.count = 0
        self.rotations = 0
        self._every = rotate_every
        self._pause_s = pause_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def expected(self) -> list[object]:
        return [line(number) for number in range(self.count)]

    def _write(self) -> None:
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        while not self._stop.wait(self._pause_s):
            for _ in range(10):
                text = line(self.count).encode() + b"\n"
                os.write(file, text[:7])
                os.write(file, text[7:])
                self.count += 1
                if self.count % self._every == 0:
                    rotate(self.path)
                    self.rotations += 1
                    os.close(file)
                    file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.close(file)


def line(number: int) -> str:
    return f"line {number} " + "x" * (number % 50)
