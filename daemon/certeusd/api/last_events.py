"""The last events of a tenant, for a page that shows a few of them once a second.

However fast events come, a look reads a few MiB of the log at most: of what became durable since
the look before it, the end. Who has few events among many of others may miss some of them here;
`GET /v1/ledger/events` shows all of them.
"""

from collections import deque
from pathlib import Path

import msgspec

from certeusd.human import harmless
from certeusd.log.reader import Filter
from certeusd.log.tailing import Tailing

EVENTS = 12
DATA_LENGTH_MAX = 240
NAME_LENGTH_MAX = 80
READ_BYTES_MAX = 4 * 1024 * 1024
"""About so much is read in a look."""
SPAN_MIN, SPAN_MAX = 64, 4096
"""Numbers that a look goes back."""
FIRST_SPAN_FACTOR = 4
"""The first look goes further back, so that a quiet ledger shows events, too."""
OPAQUE = "(bytes)"


class EventRow(msgspec.Struct, frozen=True, kw_only=True):
    """One durable event, cut to what a row has room for; nothing in it is obeyed by a screen."""

    seq: int
    recorded_at: str
    source: str
    type: str
    subject: str | None
    verdict: str
    data: str
    """The beginning of it, as it was sent; of bytes only that they are some."""


class _Line(msgspec.Struct):
    seq: int
    recorded_at: str
    source: str
    type: str
    verdict: str
    subject: str | None = None
    data: msgspec.Raw = msgspec.Raw()


_DECODER = msgspec.json.Decoder(_Line)


class LastEvents:
    """Looks when it is told to; one thread at a time."""

    def __init__(self, log_dir: Path, tenant: str) -> None:
        self._log_dir = log_dir
        self._wanted = Filter(tenant=tenant)
        self._after_seq: int | None = None
        self._rows: deque[EventRow] = deque(maxlen=EVENTS)

    def look(self, durable_seq: int, event_bytes: float) -> list[EventRow]:
        """Return the newest events, the last one first.

        Args:
            durable_seq: nothing beyond it is shown.
            event_bytes: how large one is, about.
        """
        span = min(SPAN_MAX, max(SPAN_MIN, int(READ_BYTES_MAX / max(event_bytes, 1.0))))
        oldest = max(0, durable_seq - span)
        if self._after_seq is None:
            after_seq = max(0, durable_seq - span * FIRST_SPAN_FACTOR)
        else:
            after_seq = max(self._after_seq, oldest)
        try:
            lines = self._lines(after_seq, durable_seq)
        except (OSError, ValueError):
            lines = []  # What cannot be read now, the state tells.
        else:
            self._after_seq = durable_seq
        self._rows.extend(map(row, lines))
        return list(reversed(self._rows))

    def _lines(self, after_seq: int, durable_seq: int) -> list[bytes]:
        if after_seq >= durable_seq:
            return []
        tailing = Tailing(self._log_dir, self._wanted, after_seq, gaps=False)
        newest: deque[bytes] = deque(maxlen=EVENTS)
        while told := tailing.read(durable_seq, until_seq=durable_seq):
            # Not all at once: what is not shown is not made into lines.
            parts = told.bytes.removesuffix(b"\n").rsplit(b"\n", EVENTS)
            newest.extend(parts[-EVENTS:] if parts != [b""] else [])
        return list(newest)


def row(line: bytes) -> EventRow:
    """Cut one event to a row."""
    one = _DECODER.decode(line)
    return EventRow(
        seq=one.seq,
        recorded_at=one.recorded_at,
        source=harmless(one.source, NAME_LENGTH_MAX),
        type=harmless(one.type, NAME_LENGTH_MAX),
        subject=None if one.subject is None else harmless(one.subject, NAME_LENGTH_MAX),
        verdict=one.verdict,
        data=data_shown(bytes(one.data)) or OPAQUE,
    )


def data_shown(data: bytes) -> str:
    """Cut the text of data, without reading more of it than is shown."""
    start = data[: 4 * (DATA_LENGTH_MAX + 1)].decode(errors="ignore")
    return harmless(start, DATA_LENGTH_MAX)
