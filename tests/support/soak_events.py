"""The events of a soak: each follows from its producer's life and its number alone.

So the process that appends them and the oracle that compares the rows need no channel but the
numbers. A *life* is one producer process; its number is never used again. Event ``n`` of a life
that gives ids is sometimes an earlier event again, to the byte (a duplicate), sometimes an earlier
id with other content (a conflict); of every life, some are not JSON (rejected).
"""

import zlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import IntEnum

from certeus import Event

TYPE = "soak"
OPAQUE = "application/octet-stream"
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)

BAD_EVERY, AGAIN_EVERY, CONFLICT_EVERY = 97, 53, 89
BACK = 7
"""How far back the event lies that is given again, or whose id is."""

_NOISE = b"".join(b"%08x" % zlib.crc32(b"%d" % n) for n in range(8192))


class Kind(IntEnum):
    """What the daemon must make of an event when each is offered once, in order."""

    GOOD = 0
    BAD = 1
    AGAIN = 2
    CONFLICT = 3


@dataclass(frozen=True)
class Sent:
    """What the row of an event must hold, byte for byte."""

    source: str
    id: str | None
    type: str
    subject: str
    time: datetime | None
    dataschema: str | None
    content_type: str | None
    extensions: str | None
    data: bytes


def kind_of(number: int, with_ids: bool) -> Kind:
    """What becomes of event ``number``."""
    if number % BAD_EVERY == 0:
        return Kind.BAD
    earlier = number - BACK
    if not with_ids or earlier < 1 or kind_of(earlier, True) is not Kind.GOOD:
        return Kind.GOOD
    if number % AGAIN_EVERY == 0:
        return Kind.AGAIN
    if number % CONFLICT_EVERY == 0:
        return Kind.CONFLICT
    return Kind.GOOD


def event(source: str, life: int, number: int, with_ids: bool) -> Event:
    """What the producer appends as event ``number`` of a life."""
    kind = kind_of(number, with_ids)
    if kind is Kind.AGAIN:
        return event(source, life, number - BACK, with_ids)
    seed = zlib.crc32(b"%d.%d" % (life, number))
    data = _data(life, number, seed)
    made = Event(data, TYPE, subject=f"{life}.{number}", source=source)
    if kind is Kind.BAD:
        made.data = data[:-1]
        return made
    if with_ids:
        made.id = f"{life}.{number - BACK if kind is Kind.CONFLICT else number}"
    if seed % 3 == 0:
        made.time = (EPOCH + timedelta(microseconds=seed)).isoformat(timespec="microseconds")
    if seed % 5 == 0:
        made.extensions = {"traceparent": f"00-{seed:032x}-01", "number": number, "odd": True}
    if seed % 7 == 0:
        made.dataschema = f"https://example.org/{seed % 9}"
    if seed % 11 == 0:
        made.content_type = OPAQUE
        made.data = data + bytes((seed & 255, 0, 255))
    return made


def sent(source: str, life: int, number: int, with_ids: bool) -> Sent:
    """What must stand in the row of a good event."""
    made = event(source, life, number, with_ids)
    frame = made.frame(TYPE)
    time = None if made.time is None else datetime.fromisoformat(str(made.time))
    assert isinstance(made.data, bytes)
    assert made.subject is not None
    return Sent(
        source, made.id, TYPE, made.subject, time, made.dataschema, made.content_type, frame[9],
        made.data,
    )  # fmt: skip


def _data(life: int, number: int, seed: int) -> bytes:
    """Valid JSON of 64 bytes to 16 KiB, mostly small."""
    head = b'{"life":%d,"n":%d,"pad":"' % (life, number)
    unit = (seed >> 8 & 0xFFFF) / 65536
    size = min(16384, int(64 * 2 ** (8 * unit**6)))
    pad = max(0, size - len(head) - 2)
    at = seed % (len(_NOISE) - 16384)
    return head + _NOISE[at : at + pad] + b'"}'
