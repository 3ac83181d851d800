"""The messages of a session's beginning and end, as bytes; and the list of unconfirmed ones.

Pure: no socket, no clock of its own. One JSON message a packet, as `ipc/README.md` has it.
"""

import re
import uuid
from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from certeusd import _native

PROTOCOL = 1
MESSAGE_BYTES_MAX = 4096
HELLO_TIMEOUT_S = 1.0
UNCONFIRMED_MAX = 64
RING_BYTES_MIN = 64 * 1024
RING_BYTES_MAX = 16 * 1024 * 1024
SOURCE_BYTES_MAX = 255
TICKET_MAX = 1 << 62

Key = TypeVar("Key", bound=Hashable)

_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises for bytes that are no message; not all are errors of msgspec's own."""

_PRODUCER = re.compile(r"[0-9a-f]{32}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a hello got no session: a stable word, a sentence, the next step."""

    reason: str
    what: str
    next: str

    def encode(self) -> bytes:
        """Return the packet."""
        return msgspec.json.encode({"refused": self.reason, "what": self.what, "next": self.next})


@dataclass(frozen=True, slots=True)
class Hello:
    """What a client says first, checked."""

    producer: bytes
    """16 random bytes."""
    source: str
    ring_bytes: int
    birth_seq: int | None
    """What it was told when it was born; `None`: it is new."""
    settled: int


class _Packet(msgspec.Struct):
    producer: str
    source: str
    ring_bytes: int
    settled: int = 0
    birth_seq: int | None = None


class _Version(msgspec.Struct):
    certeus: int


def _malformed(what: str) -> Refusal:
    return Refusal("malformed-hello", what, "use the library of this version of certeus")


def parse_hello(packet: bytes, ring_bytes_max: int) -> Hello | Refusal:
    """Read a client's first packet.

    Args:
        packet: At most `MESSAGE_BYTES_MAX` bytes, whole.
        ring_bytes_max: Configured limit of one ring.
    """
    try:
        version = msgspec.json.decode(packet, type=_Version).certeus
        if version != PROTOCOL:
            return Refusal(
                "version",
                f"this daemon speaks version {PROTOCOL} of the protocol, not {version}",
                "install client and daemon of one version",
            )
        said = msgspec.json.decode(packet, type=_Packet)
    except _UNREADABLE as error:
        return _malformed(f"cannot read the hello: {error}")
    source_bytes = said.source.encode(errors="surrogatepass")
    if not _PRODUCER.fullmatch(said.producer):
        return _malformed("producer is not 32 hexadecimal digits")
    if not 1 <= len(source_bytes) <= SOURCE_BYTES_MAX or _native.check_text(source_bytes):
        return _malformed(f"source is not 1..{SOURCE_BYTES_MAX} bytes of plain text")
    if not 0 <= said.settled <= TICKET_MAX or not 0 <= (said.birth_seq or 0) < TICKET_MAX:
        return _malformed("settled or birth_seq is out of range")
    if said.birth_seq is None and said.settled:
        return _malformed("a new producer has nothing settled")
    largest = min(ring_bytes_max, RING_BYTES_MAX)
    if said.ring_bytes.bit_count() != 1 or not RING_BYTES_MIN <= said.ring_bytes <= largest:
        return Refusal(
            "ring-bytes",
            f"a ring of {said.ring_bytes} bytes is not possible here",
            f"ask for a power of two in {RING_BYTES_MIN}..{largest}",
        )
    return Hello(
        producer=bytes.fromhex(said.producer),
        source=said.source,
        ring_bytes=said.ring_bytes,
        birth_seq=said.birth_seq,
        settled=said.settled,
    )


def encode_welcome(
    *,
    session: int,
    log_uuid: bytes,
    birth_seq: int,
    high: int,
    producer_no: int,
    event_bytes_max: int,
    depth_max: int,
) -> bytes:
    """Return the packet that goes with P, C and E."""
    return msgspec.json.encode(
        {
            "welcome": True,
            "session": session,
            "log_id": str(uuid.UUID(bytes=log_uuid)),
            "birth_seq": birth_seq,
            "high": high,
            "producer_no": producer_no,
            "event_bytes_max": event_bytes_max,
            "depth_max": depth_max,
        }
    )


ENDED = {
    "ring-position": "the ring's tail is where no library puts it",
    "ring-length": "a frame in the ring is longer than can be",
    "ring-kind": "a frame in the ring is of no known kind",
    "ring-ticket": "a frame in the ring has not the next ticket",
    "sequence-gap": "a ticket is missing",
    "superseded": "the same producer said hello in another session",
    "source-changed": "this producer's events are logged under another source",
    "producer-expired": "what became of this producer's tickets is not known any more",
    "draining": "the worker stops; connect again",
    "malformed-message": "the session's socket carried what is no message",
}
"""What a client is told when its session ends, by reason."""


def encode_ended(reason: str) -> bytes:
    """Return the last packet of a session that this side ends."""
    return msgspec.json.encode({"ended": reason, "what": ENDED.get(reason, reason)})


def refusal_by_log(reason: str) -> Refusal:
    """Return what a client is told when the log writer, or a drain, refuses it."""
    if reason == "draining":
        return Refusal(reason, "this worker stops", "connect again")
    return Refusal(
        reason,
        ENDED.get(reason, reason),
        "look for the tickets in doubt by their ids, and go on with a new Producer",
    )


def is_goodbye(packet: bytes) -> bool:
    """Whether the client says that everything is settled and it will not come back."""
    try:
        return msgspec.json.decode(packet, type=dict[str, object]) == {"goodbye": True}
    except _UNREADABLE:
        return False


class Unconfirmed(Generic[Key]):
    """Connections that have not said hello: bounded in number and in time."""

    def __init__(self) -> None:
        self._waiting: dict[Key, tuple[int, float]] = {}

    def add(self, key: Key, uid: int, now: float) -> Key | None:
        """Note a connection; return one that has to go instead, if there are too many.

        The one that goes is the oldest of the user who has the most, so that a user who opens many
        pushes out only its own.
        """
        self._waiting[key] = (uid, now + HELLO_TIMEOUT_S)
        if len(self._waiting) <= UNCONFIRMED_MAX:
            return None
        counts = Counter(owner for owner, _ in self._waiting.values())
        greediest, _ = counts.most_common(1)[0]
        return next(other for other, (owner, _) in self._waiting.items() if owner == greediest)

    def discard(self, key: Key) -> None:
        """Forget a connection: it said something, or is gone."""
        self._waiting.pop(key, None)

    def expired(self, now: float) -> Iterator[Key]:
        """Give those whose time is over; the caller discards them."""
        return iter([key for key, (_, deadline) in self._waiting.items() if deadline <= now])

    def next_deadline(self) -> float | None:
        """When the first of them expires."""
        return min((deadline for _, deadline in self._waiting.values()), default=None)

    def __len__(self) -> int:
        return len(self._waiting)
