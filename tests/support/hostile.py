"""A client that speaks the session protocol by hand, and then writes what no library writes."""

import json
import mmap
import os
import select
import socket
import struct
from types import TracebackType
from typing import Any

PAGE_BYTES = 4096
TAIL = 128
SETTLED = 384
RING_BYTES = 4 << 20
KIND_EVENT = 1


def frame(
    ticket: int, payload: bytes, *, kind: int = KIND_EVENT, length: int | None = None
) -> bytes:
    """One frame, padded to 16; ``length`` lies about the payload's."""
    stated = len(payload) if length is None else length
    raw = struct.pack("<QQ", stated | kind << 32, ticket) + payload
    return raw + bytes(-len(raw) % 16)


def event(data: bytes, attributes: bytes = b"\x01\x01\x00t") -> bytes:
    """The payload of an event of type ``t``."""
    return struct.pack("<IB3x", len(attributes), 0) + attributes + data


def connected(path: str) -> socket.socket:
    """A connection that has said nothing yet."""
    end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    end.settimeout(20)
    end.connect(path)
    return end


def hello(source: str = "hostile", ring_bytes: int = RING_BYTES) -> dict[str, object]:
    """A new producer's first message."""
    return {
        "certeus": 1, "producer": os.urandom(16).hex(), "source": source,
        "ring_bytes": ring_bytes, "birth_seq": None, "settled": 0, "pid": os.getpid(),
    }  # fmt: skip


class HostileClient:
    """One session, whose P is ours to write as we like."""

    def __init__(self, path: str, source: str = "hostile", ring_bytes: int = RING_BYTES) -> None:
        self.socket = connected(path)
        self.socket.send(json.dumps(hello(source, ring_bytes)).encode())
        packet, descriptors, _, _ = socket.recv_fds(self.socket, 65536, 8)
        self.welcome: dict[str, Any] = json.loads(packet)
        assert "welcome" in self.welcome, f"refused: {self.welcome}"
        self.p, self.c, self.doorbell = descriptors
        self.memory = mmap.mmap(self.p, PAGE_BYTES + ring_bytes)
        self.words = mmap.mmap(self.c, PAGE_BYTES, prot=mmap.PROT_READ)
        self.tail = 0

    def write(self, raw: bytes) -> None:
        """Put bytes behind the tail and commit them."""
        at = PAGE_BYTES + self.tail
        self.memory[at : at + len(raw)] = raw
        self.commit(self.tail + len(raw))

    def commit(self, tail: int) -> None:
        """Store any tail, and ring the doorbell."""
        self.tail = tail
        self.memory[TAIL : TAIL + 8] = struct.pack("<Q", tail)
        os.eventfd_write(self.doorbell, 1)

    def settled(self) -> int:
        """The last ticket whose verdict is out."""
        (ticket,) = struct.unpack_from("<Q", self.words, SETTLED)
        return int(ticket)

    def word(self) -> dict[str, Any] | None:
        """What the daemon has said besides bells, so far; an empty one is the end of file."""
        while select.select([self.socket], [], [], 0)[0]:
            packet = self.socket.recv(65536)
            if packet[:1] != b"\x01":
                return dict(json.loads(packet)) if packet else {}
        return None

    def ended(self) -> str:
        """The reason with which the daemon ends the session; bells are passed over."""
        while True:
            assert select.select([self.socket], [], [], 10)[0], "the session goes on"
            packet = self.socket.recv(65536)
            assert packet, "the session ended without a word"
            if packet[:1] == b"{":
                return str(json.loads(packet)["ended"])

    def __enter__(self) -> "HostileClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.socket.close()
        self.memory.close()
        self.words.close()
        for descriptor in (self.p, self.c, self.doorbell):
            os.close(descriptor)
