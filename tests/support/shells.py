"""A shell at a terminal of its own, to type into: what a Tab does is seen by nobody else."""

import os
import pty
import select
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

from support.waiting import wait_until

READ_BYTES = 65_536


class Typist:
    """Types into a shell, and reads what it shows."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._shown = ""

    def type(self, text: str) -> None:
        self._shown = ""
        os.write(self._terminal, text.encode())

    def sees(self, *words: str) -> str:
        """Wait until all words have been shown since the last typing; what was shown."""
        try:
            wait_until(f"{words} of the shell", lambda: self._has(words))
        except AssertionError as error:
            raise AssertionError(f"{error}; it shows {self._shown!r}") from None
        return self._shown

    def _has(self, words: tuple[str, ...]) -> bool:
        while select.select([self._terminal], [], [], 0)[0]:
            self._shown += os.read(self._terminal, READ_BYTES).decode(errors="replace")
        return all(word in self._shown for word in words)


@contextmanager
def shell(command: list[str], directory: Path, environ: Mapping[str, str]) -> Generator[Typist]:
    """A shell that begins in a directory; ended by force."""
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", *command], stdin=end, stdout=end, stderr=end, cwd=directory,
        env={**environ, "TERM": "dumb", "HOME": str(directory)},
    )  # fmt: skip
    os.close(end)
    try:
        yield Typist(terminal)
    finally:
        process.kill()
        process.wait(30)
        os.close(terminal)
