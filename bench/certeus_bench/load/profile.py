"""What is offered: a profile says how events differ in time, key and size.

The same seed gives the same events in the same order. Each producer offers its rows again and
again; the checksum of what it wrote follows from how many there were.
"""

from collections.abc import Sequence
from enum import StrEnum
from random import Random
from typing import NamedTuple

from certeus import Event
from certeus_bench.rows import ROWS, make_row

PRODUCERS_MAX = 64
KEYS = 10_000
SIZES = tuple(64 << power for power in range(11))
"""64 B to 64 KiB: of each as many bytes as of any other, so large ones are rare."""


class Profile(StrEnum):
    """How the load looks."""

    UNIFORM = "uniform"
    """One size, evenly spread over time."""
    BURSTY = "bursty"
    """The same mean, in bursts of five times the rate for a fifth of the time."""
    ZIPF = "zipf"
    """Each event has a subject, one of 10,000 by Zipf's law: the first is a tenth of all."""
    MIXED = "mixed"
    """Sizes of 64 B to 64 KiB."""


class Rows(NamedTuple):
    """What one producer offers."""

    payloads: list[bytes]
    subjects: list[str] | None

    def items(self) -> list[bytes | Event]:
        """As `append_many` takes them."""
        if self.subjects is None:
            return [*self.payloads]
        pairs = zip(self.payloads, self.subjects, strict=True)
        return [Event(payload, subject=subject) for payload, subject in pairs]


def rows(profile: Profile, event_bytes: int, seed: int, worker: int) -> Rows:
    """The rows of one producer."""
    chance = Random(f"{seed}/{worker}")
    sizes: Sequence[int] = [event_bytes] * ROWS
    if profile is Profile.MIXED:
        sizes = chance.choices(SIZES, [1 / size for size in SIZES], k=ROWS)
    shift = seed * PRODUCERS_MAX + worker
    payloads = [make_row(number, size, shift) for number, size in enumerate(sizes)]
    if profile is not Profile.ZIPF:
        return Rows(payloads, None)
    ranks = chance.choices(range(1, KEYS + 1), [1 / rank for rank in range(1, KEYS + 1)], k=ROWS)
    return Rows(payloads, [f"sensor-{rank:05d}" for rank in ranks])
