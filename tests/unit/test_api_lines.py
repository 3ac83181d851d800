"""NDJSON in steps: nothing of a body is lost, and no step of it is long."""

import time

import pytest

from certeusd._native import DoorEncoder, Encoded
from certeusd.api.lines import STEP_BYTES, STEP_LINES, Lines
from certeusd.api.problems import ProblemError
from certeusd.api.refusals import Refusal, by_runs

LINE_MAX = 1 << 20


class Steps:
    """What came to the encoder, a real one."""

    def __init__(self) -> None:
        self.steps = list[bytes]()
        self._encoder = DoorEncoder(1024, "s", ())

    def __call__(self, lines: bytes, /, *, final: bool) -> Encoded:
        self.steps.append(lines)
        encoded = self._encoder.data_lines(lines, "t", final=final)
        assert encoded.consumed == len(lines)
        return encoded


@pytest.mark.parametrize("size", [1, 7, 4096, 100_000, 1 << 20])
def test_a_body_in_blocks_of_any_size_is_the_same_events(size: int) -> None:
    body = b"".join(b'{"n": %d}\n' % n for n in range(20_000)) + b"\n \n" + b'{"last": 1}'
    steps = Steps()
    lines = Lines(steps, LINE_MAX)
    events = 0
    for at in range(0, len(body), size):
        events += sum(encoded.count for encoded in lines.feed(body[at : at + size]))
    events += sum(encoded.count for encoded in lines.end())
    assert events == 20_001
    assert b"".join(steps.steps) == body


@pytest.mark.parametrize("line", [b"1\n", b"{}\n", b'{"text": "%s"}\n' % (b"x" * 200)])
def test_a_step_has_some_thousand_lines_at_most(line: bytes) -> None:
    steps = Steps()
    body = line * (2 * STEP_BYTES // len(line) + 3 * STEP_LINES)
    list(Lines(steps, LINE_MAX).feed(body))
    assert b"".join(steps.steps) == body
    assert max(map(len, steps.steps)) <= STEP_BYTES
    assert max(step.count(b"\n") for step in steps.steps) <= STEP_LINES


def test_a_line_longer_than_a_step_is_whole() -> None:
    steps = Steps()
    body = b"1\n" + b"x" * (2 * STEP_BYTES) + b"\n1\n"
    encoded = list(Lines(steps, LINE_MAX).feed(body))
    assert sum(one.seen for one in encoded) == 3


def test_a_line_that_comes_by_the_byte_costs_no_more_than_its_length() -> None:
    steps = Steps()
    lines = Lines(steps, LINE_MAX)
    assert list(lines.feed(b"x" * (LINE_MAX - 200_000))) == []
    began = time.process_time()
    for _ in range(200_000):
        assert list(lines.feed(b"x")) == []
    # Had each been joined to the rest, these were 160 GB.
    assert time.process_time() - began < 5
    with pytest.raises(ProblemError):
        list(lines.feed(b"x"))


def test_refusals_in_a_row_are_one() -> None:
    same = [(at, "bad") for at in range(3, 1003)]
    assert list(by_runs(same)) == [Refusal(3, 1000, "bad")]
    mixed = [(at, "a" if at % 2 else "b") for at in range(100)]
    assert list(by_runs(mixed)) == [Refusal(at, 1, why) for at, why in mixed]
    apart = [(at, "a") for at in range(0, 100, 2)]
    assert list(by_runs(apart)) == [Refusal(at, 1, "a") for at, _ in apart]
    assert list(by_runs([])) == []
