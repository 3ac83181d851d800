"""The lines of `certeus tap`: an event in one, or how many there were in a second. Pure.

What a stranger wrote cannot move the cursor or colour the terminal (`human.py`).
"""

import json
import time

import msgspec

from certeusd.cli.common import SCHEMA_VERSION
from certeusd.control.types import rfc3339
from certeusd.human import harmless, harmless_json, human_bytes, short

NAME_LENGTH_MAX = 60
DATA_LENGTH_MAX, DATA_LENGTH_MIN = 200, 20
TYPES_MAX, TYPES_SHOWN_MAX = 1000, 6
OTHERS = "(others)"
CLOCK = slice(11, 23)
"""Of an RFC 3339 time: to the millisecond."""


class _Event(msgspec.Struct):
    seq: int
    recordedat: str
    source: str
    type: str
    subject: str = ""
    data: msgspec.Raw = msgspec.Raw()
    data_base64: str = ""


class _Type(msgspec.Struct):
    type: str


class _Gap(msgspec.Struct):
    first_seq: int
    last_seq: int
    reason: str


_EVENT, _TYPE = msgspec.json.Decoder(_Event), msgspec.json.Decoder(_Type)


class Lines:
    """Renders events.

    Args:
        whole: as JSON with `schema_version`, with every byte of the data.
        width: of the terminal, which would obey some characters; none: it is no terminal.
    """

    def __init__(self, whole: bool, width: int | None) -> None:
        self._whole = whole
        self._width = width

    def line(self, data: bytes) -> bytes:
        """Render one event, as the api sent it."""
        if self._whole:
            whole = data if self._width is None else harmless_json(data)
            return b'{"schema_version": %d, %b\n' % (SCHEMA_VERSION, whole.removeprefix(b"{"))
        one = _EVENT.decode(data)
        names = [harmless(name, NAME_LENGTH_MAX) for name in (one.source, one.type, one.subject)]
        head = f"{one.recordedat[CLOCK]}  {one.seq}  {'  '.join(filter(None, names))}  "
        room = DATA_LENGTH_MAX
        if self._width is not None:
            room = max(DATA_LENGTH_MIN, self._width - len(head) - 1)
        start = bytes(one.data)[: 4 * (room + 1)].decode(errors="ignore")
        shown = harmless(start, room) if start else f"({_bytes_of(one.data_base64)} bytes)"
        return f"{head}{shown}\n".encode()

    @staticmethod
    def gap(data: bytes) -> str:
        """Render numbers that the log does not hold."""
        one = msgspec.json.decode(data, type=_Gap)
        return f"gap {one.first_seq}..{one.last_seq} ({one.reason})"


def _bytes_of(base64: str) -> int:
    return len(base64) // 4 * 3 - base64[-2:].count("=")


class Rates:
    """Counts events by type."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._types: dict[str, tuple[int, int]] = {}

    def add(self, data: bytes) -> None:
        """Count one event."""
        name = _TYPE.decode(data).type
        if name not in self._types and len(self._types) >= TYPES_MAX:
            name = OTHERS
        events, size = self._types.get(name, (0, 0))
        self._types[name] = (events + 1, size + len(data))

    def taken(self, seconds: float) -> str:
        """Render what was counted in so many seconds, and begin anew."""
        types, self._types = self._types, {}
        events = sum(count for count, _ in types.values())
        size = sum(count for _, count in types.values())
        most = sorted(types.items(), key=lambda one: (-one[1][0], one[0]))
        if self._as_json:
            by_type = {name: {"events": count, "bytes": told} for name, (count, told) in most}
            return json.dumps({
                "schema_version": SCHEMA_VERSION, "at": rfc3339(time.time()), "seconds": seconds,
                "events": events, "bytes": size, "types": by_type,
            })  # fmt: skip
        shown = [f"{harmless(name, NAME_LENGTH_MAX)} {short(count / seconds)}/s"
                 for name, (count, _) in most[:TYPES_SHOWN_MAX]]  # fmt: skip
        if len(most) > TYPES_SHOWN_MAX:
            shown.append(f"{len(most) - TYPES_SHOWN_MAX} more types")
        speed = f"{short(events / seconds)} events/s  {human_bytes(int(size / seconds))}/s"
        return f"{rfc3339(time.time())[CLOCK]}  {speed}  {', '.join(shown)}".rstrip()
