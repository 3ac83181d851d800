"""Rings as no library writes them, and a model of what the daemon must make of each.

A round puts frames behind the tail, changes some of their bytes or lies about the tail, and
commits. The model reads the same bytes as `ipc/README.md` has it, and says which tickets are taken
and by which word the session ends, if it does.
"""

import random
import struct
from dataclasses import dataclass, field

from support.hostile import KIND_EVENT, event

RING_BYTES = 64 * 1024
PAYLOAD_MAX = RING_BYTES // 8 - 16
KIND_PAD = 0xFF
HEADER = struct.Struct("<QQ")
U64 = 2**64
LENGTHS = (0, 1, 15, 16, 4096, PAYLOAD_MAX, PAYLOAD_MAX + 1, RING_BYTES, 2**31, 2**32 - 1)
TICKETS = (0, 1, 2**32, 2**62, 2**63, U64 - 1)


@dataclass
class Model:
    """The daemon's side of one ring."""

    tail: int = 0
    read: int = 0
    released: int = 0
    next_ticket: int = 1
    whole: dict[int, bytes] = field(default_factory=dict[int, bytes])
    """Payloads as a library would write them, by ticket, of what was taken."""
    changed: set[int] = field(default_factory=set[int])
    """Tickets that were taken with a payload that was changed: accepted or rejected."""
    ended: str | None = None

    @property
    def settled(self) -> int:
        return self.next_ticket - 1

    def commit(self, data: bytearray, tail: int, honest: dict[int, bytes]) -> None:
        """Take what the ring holds, as the worker does."""
        if tail % 16 or tail < self.tail or tail - self.released > RING_BYTES:
            self.ended = "ring-position"
            return
        self.tail = tail
        while self.read < tail and self.ended is None:
            self.ended = self._frame(data, honest)

    def _frame(self, data: bytearray, honest: dict[int, bytes]) -> str | None:
        index = self.read % RING_BYTES
        word, ticket = HEADER.unpack_from(data, index)
        length, kind, flags = word & 0xFFFFFFFF, word >> 32 & 0xFF, word >> 40 & 0xFF
        size = (16 + length + 15) // 16 * 16
        if word >> 48:
            return "ring-kind"
        if size > RING_BYTES - index or size > self.tail - self.read:
            return "ring-length"
        if kind == KIND_PAD:
            self.read += size
            return None if size == RING_BYTES - index and not flags else "ring-kind"
        if length > PAYLOAD_MAX:
            return "ring-length"
        if kind != KIND_EVENT or flags:
            return "ring-kind"
        if ticket != self.next_ticket:
            return "ring-ticket"
        self.read += size
        self.released = self.read
        payload = bytes(data[index + 16 : index + 16 + length])
        if honest.get(ticket) == payload:
            self.whole[ticket] = payload
        else:
            self.changed.add(ticket)
        self.next_ticket += 1
        return None


class Fuzzer:
    """Writes one ring, round by round, into `data`."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.data = bytearray(RING_BYTES)
        self.model = Model()
        self.honest: dict[int, bytes] = {}

    def round(self) -> int:
        """Write frames, harm them or the tail, and let the model take them; the tail to commit."""
        model = self.model
        frames: list[tuple[int, int]] = []
        end = model.tail
        ticket = model.next_ticket
        for _ in range(self.rng.choice((0, 1, 1, 2, 3, 5, 8))):
            payload = self._payload(ticket)
            at = self._fit(end, len(payload))
            if at is None:
                break
            frames.append((at, len(payload)))
            end = self._put(at, KIND_EVENT, ticket, payload)
            self.honest[ticket] = payload
            ticket += 1
        if self.rng.random() < 0.6:
            end = self._harm(frames, end)
        model.commit(self.data, end, self.honest)
        return end

    def _payload(self, ticket: int) -> bytes:
        size = self.rng.choice((2, 10, 40, 200, 1000, 4000, PAYLOAD_MAX - 30))
        pad = "x" * (size // 2 + self.rng.randrange(size // 2 + 1))
        return event(b'{"n":%d,"pad":"%s"}' % (ticket, pad.encode()))[:PAYLOAD_MAX]

    def _fit(self, end: int, length: int) -> int | None:
        """Where a frame can stand; behind padding if the ring ends before it does."""
        size = (16 + length + 15) // 16 * 16
        room = RING_BYTES - end % RING_BYTES
        at = end if size <= room else end + room
        if at + size - self.model.released > RING_BYTES:
            return None
        if at != end:
            self._put(end, KIND_PAD, 0, bytes(room - 16))
        return at

    def _put(self, at: int, kind: int, ticket: int, payload: bytes) -> int:
        raw = HEADER.pack(len(payload) | kind << 32, ticket) + payload
        raw += bytes(-len(raw) % 16)
        index = at % RING_BYTES
        self.data[index : index + len(raw)] = raw
        return at + len(raw)

    def _harm(self, frames: list[tuple[int, int]], end: int) -> int:
        """Change bytes of one frame, or the tail; return the tail."""
        rng = self.rng
        if not frames or rng.random() < 0.2:
            return self._lie(frames, end)
        at, length = rng.choice(frames)
        index = at % RING_BYTES
        word, ticket = HEADER.unpack_from(self.data, index)
        kind = rng.choice(("bits", "length", "kind", "ticket", "flags", "zeros", "noise", "pad"))
        if kind == "bits":
            for _ in range(rng.choice((1, 2, 8))):
                self.data[index + rng.randrange(16 + length)] ^= 1 << rng.randrange(8)
        elif kind == "length":
            length = rng.choice((*LENGTHS, rng.randrange(2**32), max(0, length - 16), length + 16))
            word = word & ~0xFFFFFFFF | length
        elif kind == "kind":
            word = word & ~(0xFF << 32) | rng.randrange(256) << 32
        elif kind == "ticket":
            ticket = rng.choice((*TICKETS, ticket - 1, ticket + 1, rng.randrange(U64)))
        elif kind == "flags":
            word |= 1 << rng.randrange(40, 64)
        elif kind == "zeros":
            word = ticket = 0
        elif kind == "pad":
            word = word & ~(0xFF << 32) | KIND_PAD << 32
        else:
            self.data[index : index + 16 + length] = rng.randbytes(16 + length)
        if kind not in ("bits", "noise"):
            HEADER.pack_into(self.data, index, word, ticket)
        return end

    def _lie(self, frames: list[tuple[int, int]], end: int) -> int:
        rng = self.rng
        lies = [
            end + 8, end + 1, self.model.tail - 16, end + 16 * rng.randrange(1, 4096),
            end + RING_BYTES, end + RING_BYTES + 16, U64 - 16, U64 - 1, rng.randrange(U64),
            end + 2**32, 2**63, 0,
        ]  # fmt: skip
        # A tail in the middle of what was written: the rest is simply not committed.
        lies += [at for at, _ in frames] * 3
        return max(0, rng.choice(lies))
