"""One batch, one transaction: gaps, rows, the position compared and set.

The compare-and-set comes last, so that the next batch can be on its way meanwhile. Its row lock is
held until the COMMIT: whoever reads the position after a connect waits behind a backend that still
commits for a life before this one. So a COMMIT whose answer was lost needs no further inquiry: the
position is read, and delivery goes on from there.
"""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from typing import NamedTuple

import asyncpg

from certeusd._native import COPY_COLUMNS
from certeusd.failpoint import failpoint
from certeusd.flush import dead_letters, schema
from certeusd.flush.errors import (
    LeafDetachedError,
    LeftOutError,
    PositionLostError,
    is_for_a_row,
)
from certeusd.flush.lanes import Turn
from certeusd.flush.position import FOLLOWER, Position
from certeusd.flush.types import Connection
from certeusd.log.reader import Batch

CHUNK_BYTES = 128 * 1024

_COMPARE_AND_SET = (
    "UPDATE certeus.flush_position SET epoch = $1, group_no = $2, seq = $3, root = $4"
    " WHERE log_id = $5 AND follower = $6 AND group_no = $7 AND seq = $8 AND root = $9"
)
_READ = (
    "UPDATE certeus.flush_position SET seq = seq WHERE log_id = $1 AND follower = $2"
    " RETURNING epoch, group_no, seq, root"
)
_IS_LEAF = (
    "SELECT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = to_regclass('certeus.' || $1)"
    " AND inhparent = 'certeus.events'::regclass AND NOT inhdetachpending)"
)
_INSERT_GAP = (
    "INSERT INTO certeus.gaps (log_id, first_seq, last_seq, reason) VALUES ($1, $2, $3, $4)"
)

Gap = tuple[int, int, str]


class Target(NamedTuple):
    """Where rows of this log go."""

    log_id: int
    jsonb: bool


async def read_position(connection: Connection, log_id: int) -> Position:
    """Return the position of this log's flusher, made if this is the first time.

    It is written again: its COMMIT waits until the COMMIT that made it is as durable as the server
    makes them. A life before this one may have gone while that still waited for a standby.
    """
    await connection.execute(
        "INSERT INTO certeus.flush_position (log_id, follower, epoch, group_no, seq, root)"
        " VALUES ($1, $2, 0, 0, 0, $3) ON CONFLICT DO NOTHING",
        log_id,
        FOLLOWER,
        bytes(32),
    )
    row = await connection.fetchrow(_READ, log_id, FOLLOWER)
    assert row is not None
    return Position(row["group_no"], row["seq"], row["root"], row["epoch"])


async def look_at_position(connection: Connection, log_id: int) -> Position | None:
    """Return the position of this log's flusher if there is one; writes nothing."""
    row = await connection.fetchrow(
        "SELECT epoch, group_no, seq, root FROM certeus.flush_position"
        " WHERE log_id = $1 AND follower = $2",
        log_id,
        FOLLOWER,
    )
    if row is None:
        return None
    return Position(row["group_no"], row["seq"], row["root"], row["epoch"])


async def compare_and_set(
    connection: Connection, log_id: int, before: Position, after: Position
) -> None:
    """Move the position, within the caller's transaction.

    Raises:
        PositionLostError: it is not `before`; the caller's transaction must not commit.
    """
    status = await connection.execute(
        _COMPARE_AND_SET,
        after.epoch,
        after.group,
        after.seq,
        after.root,
        log_id,
        FOLLOWER,
        before.group,
        before.seq,
        before.root,
    )
    failpoint("flush-after-compare-and-set")
    if status != "UPDATE 1":
        raise PositionLostError(f"the flush position is not group {before.group} any more")


async def copy_rows(
    connection: Connection,
    target: Target,
    batch: Batch,
    rows: range,
    moved: Callable[[], None],
) -> None:
    """COPY some rows of a batch into the leaf of its day, telling `moved` of each chunk sent.

    Raises:
        LeftOutError: the server said yes, and did not store all `rows`.
        LeafDetachedError: the leaf is no partition of `events` any more.
    """

    async def source() -> AsyncIterator[bytes]:
        for chunk in batch.copy(rows.start, rows.stop, CHUNK_BYTES, target.log_id, target.jsonb):
            moved()
            yield chunk
        moved()

    failpoint("flush-before-copy")
    tag = await connection.copy_to_table(
        schema.leaf_name(batch.day),
        schema_name="certeus",
        columns=COPY_COLUMNS,
        format="binary",
        source=source(),
    )
    failpoint("flush-after-copy")
    LeftOutError.check(tag, len(rows))
    # COPY holds it in place until the end of the transaction.
    if not await connection.fetchval(_IS_LEAF, schema.leaf_name(batch.day)):
        raise LeafDetachedError(schema.leaf_name(batch.day))


def position_behind(batch: Batch, before: Position) -> Position:
    """Return the position once the batch is stored."""
    # A gap alone belongs to no group of its own.
    return Position(batch.group, batch.last_seq, batch.root, batch.epoch or before.epoch)


async def store(
    connection: Connection,
    target: Target,
    turn: Turn,
    batch: Batch,
    moved: Callable[[], None],
    rate: dead_letters.Rate,
) -> tuple[Position, int]:
    """Commit one batch, in its turn: all of it, or nothing.

    A row that the server refuses makes the transaction start again, row by row where needed; such
    rows go to `dead_letters`, with everything else in the one transaction.

    Returns:
        The new position, and how many rows became dead letters.

    Raises:
        PositionLostError: somebody else moved the position; nothing was stored.
        DeadLetterRateError: more rows are refused than `rate` allows; nothing was stored.
        asyncpg.PostgresError: anything that is not a row's fault; nothing was stored, unless the
            connection was lost during COMMIT, which only `read_position` can tell.
    """
    try:
        async with whole(connection):
            await store_gaps(connection, target.log_id, batch.gaps)
            if batch.rows:
                await copy_rows(connection, target, batch, range(batch.rows), moved)
            before = await turn.wait(connection, moved)
            after = position_behind(batch, before)
            await compare_and_set(connection, target.log_id, before, after)
        return after, 0
    except (asyncpg.PostgresError, LeftOutError) as error:
        if not is_for_a_row(error) or connection.is_closed():
            raise

    async def copy_part(first_row: int, end_row: int) -> None:
        await copy_rows(connection, target, batch, range(first_row, end_row), moved)

    before = await turn.wait(connection, moved)
    after = position_behind(batch, before)
    async with whole(connection):
        # What a constraint defers to COMMIT could be told of no row.
        await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
        await compare_and_set(connection, target.log_id, before, after)
        await store_gaps(connection, target.log_id, batch.gaps)
        refused = await dead_letters.copy_around(connection, target.log_id, batch, copy_part, rate)
    return after, refused


@contextlib.asynccontextmanager
async def whole(connection: Connection) -> AsyncGenerator[None]:
    """All or nothing, of what is in the block."""
    failpoint("flush-before-begin")
    async with connection.transaction(isolation="read_committed"):
        failpoint("flush-after-begin")
        # Again: a pooler may have kept what the session asked for to itself.
        await connection.execute("SET LOCAL synchronous_commit = on")
        yield
        failpoint("flush-before-commit")
    failpoint("flush-after-commit")


async def store_gaps(connection: Connection, log_id: int, gaps: Sequence[Gap]) -> None:
    """Name missing numbers, within the caller's transaction."""
    for first_seq, last_seq, reason in gaps:
        tag = await connection.execute(_INSERT_GAP, log_id, first_seq, last_seq, reason)
        LeftOutError.check(tag, 1)
        failpoint("flush-after-gap")


async def accept_gap(
    connection: Connection, target: Target, before: Position, after: Position
) -> None:
    """Write off the numbers between two positions, in a transaction of its own."""
    async with whole(connection):
        await compare_and_set(connection, target.log_id, before, after)
        gap = (before.seq + 1, after.seq, "trimmed")
        await store_gaps(connection, target.log_id, [gap] if after.seq > before.seq else [])
