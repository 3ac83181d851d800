"""NDJSON into the encoder: lines are whole there and bounded, and so is each step.

A step is what the loop does before others have their turn. A few bytes may be an event that is
refused, so not only its bytes are bounded but its lines.
"""

from collections.abc import Iterator
from typing import Protocol

from certeusd._native import Encoded
from certeusd.api.problems import ProblemError

STEP_BYTES = 64 * 1024
STEP_LINES = 4096
PARTS_MAX = 16_384
"""Of a line that is not at its end: each is an object."""


class Encode(Protocol):
    """Whole lines into payloads."""

    def __call__(self, lines: bytes, /, *, final: bool) -> Encoded:
        """Encode them; `final`: the end is the end of a line, too."""
        ...


class Lines:
    """Makes steps of blocks."""

    def __init__(self, encode: Encode, line_bytes_max: int) -> None:
        self._encode = encode
        self._line_bytes_max = line_bytes_max
        self._rest = list[bytes]()
        self._rest_bytes = 0

    def feed(self, block: bytes) -> Iterator[Encoded]:
        """Take a block; what is behind its last line waits for the next one.

        Raises:
            ProblemError: 413, a line is longer than any event.
        """
        at, end = 0, block.rfind(b"\n") + 1
        while at < end:
            until = _step(block, at, end)
            yield self._encode(self._with_rest(block[at:until]), final=False)
            at = until
        self._rest.append(block[at:])
        self._rest_bytes += len(block) - at
        if len(self._rest) > PARTS_MAX:
            self._rest = [b"".join(self._rest)]
        if self._rest_bytes > self._line_bytes_max:
            raise ProblemError(
                413, "line-too-long", "line too long",
                f"a line has more than {self._line_bytes_max} bytes, which no event may have; the"
                " lines before it were taken",
            )  # fmt: skip

    def end(self) -> Iterator[Encoded]:
        """Take what is left, which needs no end of line."""
        if self._rest_bytes:
            yield self._encode(self._with_rest(b""), final=True)

    def _with_rest(self, lines: bytes) -> bytes:
        whole = b"".join((*self._rest, lines))
        self._rest.clear()
        self._rest_bytes = 0
        return whole


def _step(block: bytes, at: int, end: int) -> int:
    """Return where a step ends that begins at `at`: behind a line."""
    size = STEP_BYTES
    while True:
        until = block.rfind(b"\n", at, at + size) + 1 or block.find(b"\n", at) + 1
        lines = block.count(b"\n", at, min(until, end))
        if lines <= STEP_LINES:
            return until
        size = size * STEP_LINES // lines
