"""Programs that append and connect in a box while something is done to the service there."""

import contextlib
import json
import subprocess
import threading
from collections.abc import Generator
from typing import NamedTuple

from support.systemd_box import PYTHON, SCRIPT, UNIT, Box
from support.waiting import wait_until

PROGRAM = "/mnt/support/steady_appender.py"
STOP_TIMEOUT_S = 120.0


class Told(NamedTuple):
    """What a program says of its work: each of these was acknowledged."""

    settled: int
    connects: int


class Appender:
    """One such program; `wait_for_more`: until it has both appended and connected again."""

    def __init__(self, box: Box, source: str = "steady") -> None:
        self.source = source
        self._program = subprocess.Popen(
            [str(SCRIPT), "exec", "-n", box.name, "--", PYTHON, PROGRAM, source],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        self._lines = list[str]()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._program.stdout is not None
        self._lines.extend(self._program.stdout)

    @property
    def told(self) -> Told:
        """What it said last."""
        last = json.loads(self._lines[-1])
        return Told(last["settled"], last["connects"])

    def wait_for_more(self) -> None:
        before = len(self._lines)
        wait_until("appends", lambda: len(self._lines) > before or self._program.poll() is not None)

    def stop(self) -> str:
        """What it said, if it failed."""
        assert self._program.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._program.stdin.write("stop\n")
            self._program.stdin.flush()
        code = self._program.wait(STOP_TIMEOUT_S)
        self._reader.join()
        for stream in (self._program.stdin, self._program.stdout):
            assert stream is not None
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        return "" if code == 0 else "".join(self._lines[-30:])


@contextlib.contextmanager
def appending(box: Box, source: str = "steady") -> Generator[Appender]:
    """That one append or one connect fails, fails the test."""
    program = Appender(box, source)
    try:
        program.wait_for_more()
        yield program
        program.wait_for_more()
    finally:
        failed = program.stop()
    assert not failed, failed + box.journal(UNIT)
