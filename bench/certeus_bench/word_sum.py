"""The sum that proves that a payload was read: that of `bench/native/src/payload.rs`.

All words of eight bytes and what is left as one short word, little-endian, wrapping at 64 bits.
Needs the standard library alone, as `rows` does.
"""

import struct
from collections.abc import Sequence

WRAP = 1 << 64
_WORD_BYTES = 8


def word_sum(payload: bytes) -> int:
    """Sum one payload."""
    words = len(payload) // _WORD_BYTES
    last = int.from_bytes(payload[words * _WORD_BYTES :], "little")
    whole: tuple[int, ...] = struct.unpack_from(f"<{words}Q", payload)
    return (sum(whole) + last) % WRAP


def total_sum(sums: Sequence[int], count: int) -> int:
    """Return the sum of ``count`` payloads that were taken in turn from those with ``sums``."""
    rounds, rest = divmod(count, len(sums))
    return (rounds * sum(sums) + sum(sums[:rest])) % WRAP
