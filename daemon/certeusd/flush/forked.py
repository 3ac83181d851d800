"""Where a forked log begins in PostgreSQL: behind the last event that is there under an old name.

A copy of a log and the log that it was copied from have a beginning in common, and it is delivered
once: by whoever had the name. What PostgreSQL has of it is found by comparing its rows, newest
name first, with the log itself, group by group. Rows are written in log order and groups whole, so
everything before the last group that is there is there, too.
"""

import datetime
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from certeusd.flush import transaction
from certeusd.flush.connection import Link
from certeusd.flush.errors import reading_the_log
from certeusd.flush.position import FOLLOWER, Position
from certeusd.flush.types import Connection
from certeusd.log.reader import Batch, LogReader

WINDOW_SEQS = 5000
"""Numbers whose rows are asked for at once."""

_ROWS = (
    "SELECT seq, recorded_at, producer_no, ticket, type, id FROM certeus.events"
    " WHERE log_id = ANY($1) AND seq BETWEEN $2 AND $3"
)
_LETTERS = (
    "SELECT seq, record FROM certeus.dead_letters WHERE log_id = ANY($1) AND seq BETWEEN $2 AND $3"
)
_NUMBERS = "SELECT log_id FROM certeus.logs WHERE uuid = ANY($1)"
_OLD_SEQ = "SELECT max(seq) FROM certeus.flush_position WHERE log_id = ANY($1) AND follower = $2"
_INSERT = (
    "INSERT INTO certeus.flush_position (log_id, follower, epoch, group_no, seq, root)"
    " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING"
)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class _Rows(NamedTuple):
    """What PostgreSQL has of a window of numbers."""

    first_seq: int
    last_seq: int
    events: frozenset[tuple[object, ...]]
    letters: frozenset[tuple[int, bytes]]


async def begin(
    link: Link,
    log_id: int,
    before: Sequence[uuid.UUID],
    log_dir: Path,
    durable: int,
    confirmed: bool,
) -> None:
    """Give a forked log its first position, if it has none yet; another log has nothing `before`.

    Args:
        link: on which nothing else runs.
        log_id: number of the new name.
        before: what the log was called, oldest first.
        log_dir: the log, of which all up to `durable` is recovered.
        durable: its durable seq.
        confirmed: PostgreSQL has confirmed something under the new name.

    Raises:
        LogUnreadableError: the log cannot be compared with anything.
    """
    if not before:
        return
    if await link.run(transaction.look_at_position(link.connection, log_id)) is not None:
        return
    old = [row["log_id"] for row in await link.run(link.connection.fetch(_NUMBERS, list(before)))]
    # If it has, and has no position any more, it went back, or is another server: what it has of
    # what was trimmed is not known.
    old_seq = None
    if not confirmed:
        old_seq = await link.run(link.connection.fetchval(_OLD_SEQ, old, FOLLOWER))
    start = await link.run(_last_in_common(link, old, log_dir, durable, old_seq))
    values = (log_id, FOLLOWER, start.epoch, start.group, start.seq, start.root)
    await link.run(link.connection.execute(_INSERT, *values))


async def _last_in_common(
    link: Link, old: Sequence[int], log_dir: Path, durable: int, old_seq: int | None
) -> Position:
    with reading_the_log():
        reader = LogReader(log_dir)
        oldest = reader.oldest()
    assert oldest is not None, "a log without a segment is not forked"
    start = Position.start()
    if oldest["before_group"]:
        trimmed = Position(
            oldest["before_group"], oldest["before_next_seq"] - 1, oldest["before_root"],
            oldest["epoch"],
        )  # fmt: skip
        with reading_the_log():
            reader.seek(trimmed.group, trimmed.seq, trimmed.root)
        # What is before the oldest segment is there, if an old name got that far in this database;
        # else that is told as a gap, unless a group behind it is found there.
        start = trimmed if old_seq is not None and old_seq >= trimmed.seq else start
    rows = _Rows(0, 0, frozenset(), frozenset())
    while True:
        with reading_the_log():
            batch = reader.next_batch(durable, 1, 1)
        if batch is None:
            return start
        if not batch.rows:
            continue
        if batch.last_seq > rows.last_seq:
            rows = await _rows(link.connection, old, batch.first_seq, batch.last_seq + WINDOW_SEQS)
            link.moved()
        if _holds(rows, batch):
            start = Position(batch.group, batch.last_seq, batch.root, batch.epoch)


async def _rows(connection: Connection, old: Sequence[int], first: int, last: int) -> _Rows:
    events = await connection.fetch(_ROWS, list(old), first, last)
    letters = await connection.fetch(_LETTERS, list(old), first, last)
    return _Rows(
        first,
        last,
        frozenset(tuple(row.values()) for row in events),
        frozenset((int(row["seq"]), bytes(row["record"])) for row in letters),
    )


def _holds(rows: _Rows, batch: Batch) -> bool:
    """Whether every event of a group is there: as a row of the same moment, or as a dead letter."""
    for row in range(batch.rows):
        event = batch.event(row)
        # PostgreSQL keeps microseconds.
        at = _EPOCH + datetime.timedelta(microseconds=event["recorded_at_ns"] // 1000)
        told = (
            event["seq"], at, event["producer_no"], event["ticket"], event["type"], event["id"]
        )  # fmt: skip
        if told not in rows.events and (event["seq"], batch.record(row)) not in rows.letters:
            return False
    return True
