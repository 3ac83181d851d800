"""The columns of ``certeus.events`` that are filled, and one row of them: the same for every peer.

What certeus itself leaves empty for such an event is left empty. A row is made before the clock
starts, its number and time too, which certeus gives each event as it comes: in the peers' favour.
Standard library alone (`producing`).
"""

from datetime import UTC, datetime

COLUMNS = (
    "log_id", "seq", "recorded_at", "tenant", "source", "type", "verdict", "producer_no",
    "ticket", "data",
)  # fmt: skip
LOG_ID = 1
TENANT = "default"
TYPE = "reading"
VERDICT = "accepted"
Row = tuple[int, int, datetime, str, str, str, str, int, int, str]


def make_row(number: int, data: bytes, producer: int, source: str) -> Row:
    """One row, from an event's JSON."""
    now = datetime.now(UTC)
    text = data.decode()
    return (LOG_ID, number, now, TENANT, source, TYPE, VERDICT, producer, number, text)
