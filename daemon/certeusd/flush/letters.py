"""Dead letters looked at, delivered again, dropped: each step one transaction, a page at a time.

A letter is taken out of its table first and put into `events` (or `gaps`) in the same transaction.
Its row lock decides between two that want the same one: the second finds it gone. So each event is
in one table at every moment, whoever dies, and the delivery, which never touches a letter again,
is not in the way.

The row is made by the encoder of the delivery from the record that the letter holds, so it is the
one that would have been there in the first place.
"""

import base64
import datetime
from collections.abc import Callable, Sequence

import asyncpg
import msgspec

from certeusd.flush import dead_letters, schema
from certeusd.flush.errors import FlushError, LeftOutError, Meaning, is_for_a_row
from certeusd.flush.transaction import Target, copy_rows, store_gaps, whole
from certeusd.flush.types import Connection
from certeusd.letters import PAGE_LETTERS_MAX, Dropped, Letter, Letters, Retried
from certeusd.log.reader import Batch

RETRY_ROWS_MAX = 100
DROP_ROWS_MAX = 10_000
PAGE_BYTES_MAX = 1024 * 1024
"""Of records; one letter at least."""
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_NO_EVENT = msgspec.Raw(b"null")
_MICROSECOND = datetime.timedelta(microseconds=1)

_SIZES = (
    "SELECT seq, octet_length(record) AS bytes FROM certeus.dead_letters"
    " WHERE log_id = $1 AND seq BETWEEN $2 AND $3"
    " AND ($4 = '' OR sqlstate = $4 OR strpos(lower(reason), lower($4)) > 0)"
    " ORDER BY seq LIMIT $5"
)
_SHOWN = (
    "SELECT seq, recorded_at, at, sqlstate, reason, octet_length(record) AS bytes,"
    f" event->>'{dead_letters.TENANT}' AS tenant, event->>'source' AS source,"
    " event->>'id' AS id, event->>'type' AS type, CASE WHEN $3 THEN record END AS record"
    " FROM certeus.dead_letters WHERE log_id = $1 AND seq = ANY($2) ORDER BY seq"
)
_DAYS = (
    "SELECT DISTINCT to_char(recorded_at AT TIME ZONE 'UTC', 'YYYYMMDD')::int AS day"
    " FROM certeus.dead_letters WHERE log_id = $1 AND seq = ANY($2) ORDER BY day"
)
_TAKE = (
    "DELETE FROM certeus.dead_letters WHERE log_id = $1 AND seq = $2"
    " RETURNING recorded_at, event::text AS event, record,"
    f" event->'{dead_letters.TENANT}' IS NOT NULL AS told,"
    f" event->>'{dead_letters.TENANT}' AS tenant, event->>'source' AS source"
)
_DROP = "DELETE FROM certeus.dead_letters WHERE log_id = $1 AND seq = ANY($2) RETURNING seq"


class RetiredLetterError(FlushError):
    """A letter whose day is past retention: as a row it would be dropped by the next look."""

    meaning = Meaning.ROW
    sqlstate = "22008"
    """Of SQL: a datetime field overflow."""


class UnreadableLetterError(FlushError):
    """A letter that somebody has changed: it does not say what its row would be."""

    meaning = Meaning.ROW
    sqlstate = "22000"
    """Of SQL: a data exception."""


async def page(
    connection: Connection, log_id: int, first_seq: int, limit: int, reason: str, whole_rows: bool
) -> Letters:
    """Return the letters from a seq on, by seq.

    Args:
        connection: of which nothing else runs.
        log_id: of the letters.
        first_seq: where to begin.
        limit: at most so many; fewer where whole ones are large.
        reason: only of this SQLSTATE, or with this in the reason; empty: all.
        whole_rows: with the event.
    """
    limit = min(limit, PAGE_LETTERS_MAX)
    found = await _sizes(connection, log_id, first_seq, schema.SEQ_MAX, limit + 1, reason)
    taken = within(found[:limit], PAGE_BYTES_MAX) if whole_rows else found[:limit]
    seqs = [seq for seq, _ in taken]
    rows = await connection.fetch(_SHOWN, log_id, seqs, whole_rows)
    letters = [
        Letter(
            seq=row["seq"], recorded_at=_told(row["recorded_at"]), at=_told(row["at"]),
            tenant=row["tenant"], source=row["source"], id=row["id"], type=row["type"],
            sqlstate=row["sqlstate"], reason=row["reason"], bytes=row["bytes"],
            event=_event(row) if whole_rows else _NO_EVENT,
        )
        for row in rows
    ]  # fmt: skip
    return Letters(dead_letters=letters, next_seq=following(found, taken))


async def retry(
    connection: Connection,
    target: Target,
    first_seq: int,
    last_seq: int,
    is_late: Callable[[], bool],
    kept_from: datetime.date = datetime.date.min,
) -> Retried:
    """Deliver the letters of a range again: each is a row of `events` now, or stays as it was told.

    Args:
        connection: of which nothing else runs.
        target: where rows of this log go.
        first_seq: of the range.
        last_seq: of the range, included.
        is_late: that is enough for one page, which then ends behind the row under way.
        kept_from: the first day (UTC) that `postgres.retention_days` keeps.

    Raises:
        asyncpg.PostgresError: anything that is not a row's fault; nothing has changed, unless the
            connection was lost during COMMIT: then all of the page or nothing.
    """
    found = await _sizes(connection, target.log_id, first_seq, last_seq, RETRY_ROWS_MAX + 1, "")
    asked = within(found[:RETRY_ROWS_MAX], PAGE_BYTES_MAX)
    for row in await connection.fetch(_DAYS, target.log_id, [seq for seq, _ in asked]):
        await schema.make_leaf(connection, row["day"])
    delivered = refused = done = 0
    async with whole(connection):
        # What a constraint defers to COMMIT could be told of no row.
        await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        for seq, _ in asked:
            outcome = await _deliver(connection, target, seq, kept_from)
            delivered += outcome is True
            refused += outcome is False
            done += 1
            if is_late():
                break
    return Retried(delivered=delivered, refused=refused, next_seq=following(found, asked[:done]))


async def drop(
    connection: Connection, log_id: int, first_seq: int, last_seq: int, reason: str
) -> Dropped:
    """Remove the letters of a range, and name exactly them in `gaps`."""
    found = await _sizes(connection, log_id, first_seq, last_seq, DROP_ROWS_MAX + 1, "")
    asked = found[:DROP_ROWS_MAX]
    async with whole(connection):
        rows = await connection.fetch(_DROP, log_id, [seq for seq, _ in asked])
        seqs = sorted(int(row["seq"]) for row in rows)
        await store_gaps(connection, log_id, [(*run, reason) for run in runs(seqs)])
    return Dropped(dropped=len(seqs), next_seq=following(found, asked))


async def _deliver(
    connection: Connection, target: Target, seq: int, kept_from: datetime.date
) -> bool | None:
    """Move one letter; False: refused again, with the new reason. None: it is gone meanwhile."""
    row = await connection.fetchrow(_TAKE, target.log_id, seq)
    if row is None:
        return None
    try:
        if row["recorded_at"].astimezone(datetime.UTC).date() < kept_from:
            raise RetiredLetterError(
                f"cannot deliver seq {seq} again: it is older than postgres.retention_days",
                "Raise postgres.retention_days, or drop it.",
            )
        batch = _batch(row, seq)
        async with connection.transaction():
            await copy_rows(connection, target, batch, range(1), _nobody)
    except (
        asyncpg.PostgresError,
        LeftOutError,
        UnreadableLetterError,
        RetiredLetterError,
    ) as error:
        if not is_for_a_row(error) or connection.is_closed():
            raise
        values = (target.log_id, seq, row["recorded_at"])
        kept = row["event"], row["record"]
        await dead_letters.insert(connection, values, error, *kept)
        return False
    return True


def _nobody() -> None:
    """The page has a deadline of its own."""


def _batch(row: asyncpg.Record, seq: int) -> Batch:
    """Make the event of a letter, as the log's reader would have."""
    if not row["told"]:
        what = f"cannot deliver seq {seq} again: its letter does not say of which tenant it is"
        raise UnreadableLetterError(what, "Put the row back as it was.")
    recorded_at_ns = (row["recorded_at"] - _EPOCH) // _MICROSECOND * 1000
    tenant, source = row["tenant"], row["source"]
    producer = None if tenant is None else (str(tenant), str(source or ""))
    try:
        return Batch.of_record(bytes(row["record"]), seq, recorded_at_ns, producer)
    except ValueError as error:
        raise UnreadableLetterError(str(error), "Put the row back as it was.") from error


def _event(row: asyncpg.Record) -> msgspec.Raw:
    producer = None if row["tenant"] is None else (row["tenant"], row["source"] or "")
    try:
        batch = Batch.of_record(bytes(row["record"]), row["seq"], 0, producer)
    except ValueError:
        return _NO_EVENT
    event = batch.event(0)
    more: dict[str, object] = {}
    if event["opaque"]:
        more["data_base64"] = base64.b64encode(event["data"]).decode()
    return msgspec.Raw(dead_letters.event_json(batch, 0, more).encode(errors="replace"))


async def _sizes(
    connection: Connection, log_id: int, first_seq: int, last_seq: int, limit: int, reason: str
) -> list[tuple[int, int]]:
    rows = await connection.fetch(_SIZES, log_id, first_seq, last_seq, reason, limit)
    return [(int(row["seq"]), int(row["bytes"])) for row in rows]


def within(found: Sequence[tuple[int, int]], bytes_max: int) -> list[tuple[int, int]]:
    """Take `(seq, bytes)` from the start while they are within the bound; the first one always."""
    taken: list[tuple[int, int]] = []
    for one in found:
        bytes_max -= one[1]
        if bytes_max < 0 and taken:
            break
        taken.append(one)
    return taken


def following(found: Sequence[tuple[int, int]], taken: Sequence[tuple[int, int]]) -> int | None:
    """Return the first seq that was found and not taken."""
    return found[len(taken)][0] if len(found) > len(taken) else None


def runs(seqs: Sequence[int]) -> list[tuple[int, int]]:
    """Return ascending numbers as first and last of each run without a hole."""
    found: list[tuple[int, int]] = []
    for seq in seqs:
        if found and found[-1][1] == seq - 1:
            found[-1] = (found[-1][0], seq)
        else:
            found.append((seq, seq))
    return found


def _told(at: datetime.datetime) -> str:
    return at.astimezone(datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
