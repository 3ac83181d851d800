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


class HostileClient:
    """One session, whose P is ours to write as we like."""

    def __init__(self, path: str, source: str = "hostile") -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(10)
        self.socket.connect(path)
        hello = {
            "certeus": 1, "producer": os.urandom(16).hex(), "source": source,
            "ring_bytes": RING_BYTES, "birth_seq": None, "settled": 0, "pid": os.getpid(),
        }  # fmt: skip
        self.socket.send(json.dumps(hello).encode())
        packet, descriptors, _, _ = socket.recv_fds(self.socket, 65536, 8)
        self.welcome: dict[str, Any] = json.loads(packet)
        p, *others = descriptors
        self.memory = mmap.mmap(p, PAGE_BYTES + RING_BYTES)
        self.doorbell = os.dup(others[1])
        for descriptor in descriptors:
            os.close(descriptor)
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
        os.close(self.doorbell)
