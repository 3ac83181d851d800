"""Coverage-guided fuzzing of what reads bytes that others wrote, and of the hello, for a while.

The targets of `fuzz/` are Rust, run by libFuzzer. The hello is read in Python, by msgspec: here it
is mutated without coverage, from the seeds in `fuzz/corpus/handshake`.
"""

import json
import random
from functools import cache
from pathlib import Path

import pytest

import fuzz
from certeusd.worker import handshake
from support.attack import Attack, Outcome

SEEDS = sorted((Path(__file__).resolve().parents[2] / "fuzz/corpus/handshake").iterdir())
SECONDS = (1, 10)
RING_BYTES_MAX = 1 << 20
REASONS = {"malformed-hello", "version", "ring-bytes"}
ODD = (
    *(b"null", b"-1", b"0", b"1e400", b"1.0", b"9223372036854775808", b"4611686018427387905"),
    *(b'"\\ud800"', b'"\\u0000"', b'"\xff"', b"[]", b"{}", b"true", b'"' + b"a" * 256 + b'"'),
    *(b"[" * 2000, b"65536", b"65537", b"2097152", b'"\xc3\xa9"', b"\xef\xbb\xbf"),
)


@cache
def programs() -> Path:
    """All targets, built once."""
    return fuzz.build()


@pytest.mark.crash
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("target", fuzz.targets())
def test_no_input_breaks_a_rule_of_its_target(attack: Attack, target: str) -> None:
    inputs = fuzz.run(programs(), target, seconds=attack.cases(*SECONDS), seed=attack.seed)
    attack.report(Outcome(f"fuzz: {target}", cases=inputs))


def mutated(rng: random.Random) -> bytes:
    """A seed with a few of its bytes, tokens or halves changed."""
    raw = rng.choice(SEEDS).read_bytes().strip()
    for _ in range(rng.choice((0, 1, 1, 1, 2, 4))):
        at, to = sorted(rng.choices(range(len(raw) + 1), k=2))
        token = rng.choice(ODD)
        change = rng.randrange(6)
        if change == 0:
            raw = raw[:at] + rng.randbytes(rng.randrange(1, 4)) + raw[at + 1 :]
        elif change == 1:
            raw = raw[:at] + raw[to:]
        elif change == 2:
            raw = raw[:to] + raw[at:]
        elif change == 3:
            # One value: from a colon to the next comma.
            head, colon, rest = raw.partition(b":") if at % 2 else raw.rpartition(b":")
            raw = head + colon + token + rest.lstrip(b'"0123456789abcdef')
        elif change == 4:
            raw = raw[:at] + token + raw[to:]
        else:
            other = rng.choice(SEEDS).read_bytes().strip()
            raw = raw[:at] + other[at:]
    return raw[: handshake.MESSAGE_BYTES_MAX]


def check(packet: bytes) -> bool:
    """Look at what is made of a packet; whether it is a hello."""
    said = handshake.parse_hello(packet, RING_BYTES_MAX)
    assert handshake.is_goodbye(packet) is False or json.loads(packet) == {"goodbye": True}
    if isinstance(said, handshake.Refusal):
        assert said.reason in REASONS, said
        assert json.loads(said.encode())["refused"] == said.reason
        return False
    # A second opinion of the same bytes; msgspec looks only at UTF-8 of what it takes.
    told = json.loads(packet.decode(errors="replace"))
    assert told["certeus"] == handshake.PROTOCOL
    assert told["producer"] == said.producer.hex()
    assert len(said.producer) == 16
    assert told["source"] == said.source
    assert 1 <= len(said.source.encode()) <= 255
    assert "\0" not in said.source
    assert said.ring_bytes in {1 << power for power in range(16, 21)}
    assert 0 <= said.settled <= 1 << 62
    assert said.birth_seq == told.get("birth_seq")
    assert said.birth_seq is not None or said.settled == 0
    return True


@pytest.mark.crash
@pytest.mark.timeout(900)
def test_no_hello_is_taken_that_is_none_and_none_harms_the_parser(attack: Attack) -> None:
    packets = [mutated(attack.rng) for _ in range(attack.cases(5_000, 500_000))]
    taken = 0
    for packet in packets:
        try:
            taken += check(packet)
        except Exception as error:
            raise AssertionError(f"--seed {attack.seed}: {packet!r}") from error
    assert 0 < taken < len(packets), "both sides of the line were met"
    attack.report(Outcome("fuzz: hello", cases=len(packets)))
