"""Finding the rows that the server refuses, and keeping them where somebody can look at them.

COPY refuses as a whole. Its error usually names the line; that is a hint, not a promise, so every
row that ends here has been refused when it was sent alone.

Where many rows are refused, it is not the rows' fault but a constraint's, a trigger's or a
column's. So there is a rate: of any `window_rows` rows in a row at most `letters_max` may end here.
One more rolls the whole batch back, and the breaker opens; the table itself is the memory, so that
no restart lets more pass.
"""

import datetime
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

import asyncpg
import msgspec

from certeusd.failpoint import failpoint
from certeusd.flush.errors import (
    DeadLetterRateError,
    LeftOutError,
    is_for_a_row,
    sqlstate_of,
)
from certeusd.flush.reasons import Reasons
from certeusd.flush.types import Connection
from certeusd.log.reader import Batch

COUNT_MAX = 1000
TENANT = "certeus_tenant"
"""Member of `event` that no extension can have for a name: it belongs to the row, too."""
_STRIDE_MIN = 16
_REASON_LENGTH_MAX = 2000
_CAUSE_LENGTH_MAX = 500
_LINE = re.compile(r"^COPY \S+, line (\d+)", re.MULTILINE)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)

_INSERT = (
    "INSERT INTO certeus.dead_letters"
    " (log_id, seq, recorded_at, sqlstate, reason, event, record)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7)"
)


_COUNT_IN_WINDOW = (
    "SELECT count(*) FROM certeus.dead_letters WHERE log_id = $1 AND seq > $2 AND seq <= $3"
)


class Rate(NamedTuple):
    """How many rows may be refused."""

    letters_max: int
    window_rows: int
    accepted_seq: int = 0
    """Up to here an admin has accepted every dead letter, however many."""


async def copy_around(
    connection: Connection,
    log_id: int,
    batch: Batch,
    copy_part: Callable[[int, int], Awaitable[None]],
    rate: Rate,
) -> int:
    """Within the caller's transaction, store all rows that can be, and the others as dead letters.

    Args:
        connection: within a transaction.
        log_id: of the rows.
        batch: all of it is stored, one way or the other.
        copy_part: sends the rows of a half-open range; raises what the server raises.
        rate: how many may be refused.

    Returns:
        The number of dead letters.

    Raises:
        DeadLetterRateError: more than that; the caller's transaction must not commit.
    """
    refused = 0
    first, stride, suspect = 0, batch.rows, -1
    while first < batch.rows:
        end = min(first + stride, batch.rows)
        if suspect > first:
            end = min(end, suspect)
        elif suspect == first:
            end = first + 1
        try:
            async with connection.transaction():
                await copy_part(first, end)
        except (asyncpg.PostgresError, LeftOutError) as error:
            if not is_for_a_row(error) or connection.is_closed():
                raise
            if end - first == 1:
                failpoint("flush-before-dead-letter")
                await _keep(connection, log_id, batch, first, error)
                failpoint("flush-after-dead-letter")
                await _check_rate(connection, log_id, batch.event(first)["seq"], error, rate)
                refused += 1
                first, suspect = end, -1
            else:
                suspect = _suspect(error, first, end)
            stride = max(_STRIDE_MIN, stride // 2)
        else:
            stride = min(stride * 2, batch.rows)
            first = end
    return refused


async def _check_rate(
    connection: Connection, log_id: int, seq: int, error: Exception, rate: Rate
) -> None:
    """See whether the dead letter that was just stored is one too many."""
    if seq <= rate.accepted_seq:
        return
    after_seq = max(seq - rate.window_rows, rate.accepted_seq)
    letters = await connection.fetchval(_COUNT_IN_WINDOW, log_id, after_seq, seq)
    assert isinstance(letters, int)
    if letters > rate.letters_max:
        raise DeadLetterRateError(
            f"PostgreSQL refuses {letters} of the rows {after_seq + 1}..{seq}, more than"
            f" {rate.letters_max} of {rate.window_rows}; the last for {sqlstate_of(error)}:"
            f" {str(error)[:_CAUSE_LENGTH_MAX]}",
            "Correct the constraint, trigger or column that refuses them: certeus tries again by"
            " itself. Or let them become dead letters by `certeus dead-letters accept`.",
        )


def _suspect(error: Exception, first: int, end: int) -> int:
    """Return the row that the error names; where it names none, the middle: a bisection."""
    found = _LINE.search(str(getattr(error, "context", None) or ""))
    line = first + int(found.group(1)) - 1 if found else -1
    return line if first <= line < end else first + (end - first) // 2


def show(reasons: Reasons, found: int) -> None:
    """Dead letters are a reason for as long as they lie in their table."""
    if not found:
        reasons.end("dead-letters")
        return
    many = f"at least {found}" if found == COUNT_MAX else str(found)
    reasons.begin(
        "dead-letters",
        f"PostgreSQL refused {many} events",
        "See why by `certeus dead-letters ls`; correct the constraint or trigger, then"
        " `certeus dead-letters retry --all`. This goes when certeus.dead_letters is empty.",
    )


async def count(connection: Connection, log_id: int) -> int:
    """Return how many dead letters of a log there are, counting no further than `COUNT_MAX`."""
    found = await connection.fetchval(
        "SELECT count(*) FROM"
        " (SELECT FROM certeus.dead_letters WHERE log_id = $1 LIMIT $2) AS found",
        log_id,
        COUNT_MAX,
    )
    assert isinstance(found, int)
    return found


async def _keep(
    connection: Connection, log_id: int, batch: Batch, row: int, error: Exception
) -> None:
    event = batch.event(row)
    recorded_at = _EPOCH + datetime.timedelta(microseconds=event["recorded_at_ns"] // 1000)
    values = (log_id, event["seq"], recorded_at)
    record = batch.record(row)
    told: dict[str, object] = {TENANT: event["tenant"]}
    try:
        async with connection.transaction():
            await insert(connection, values, error, event_json(batch, row, told), record)
    except asyncpg.DataError:
        # The record holds the rest; the readable form is only for the eye.
        named = json.dumps({TENANT: event["tenant"], "source": event["source"]})
        await insert(connection, values, error, named, record)


async def insert(
    connection: Connection,
    values: tuple[int, int, datetime.datetime],
    error: Exception,
    event: str | None,
    record: bytes,
) -> None:
    """Keep a letter with the reason that an error gives, within the caller's transaction.

    Args:
        connection: within a transaction.
        values: log_id, seq, recorded_at.
        error: why the row was refused.
        event: its readable form, with what of the row is not in the record.
        record: the logged bytes.
    """
    detail = getattr(error, "detail", None)
    reason = f"{error}" if detail is None else f"{error} {detail}"
    # A NUL or half a surrogate pair would be refused here too.
    reason = reason.replace("\0", "").encode(errors="replace").decode()[:_REASON_LENGTH_MAX]
    tag = await connection.execute(_INSERT, *values, sqlstate_of(error), reason, event, record)
    LeftOutError.check(tag, 1)


def event_json(batch: Batch, row: int, more: Mapping[str, object]) -> str:
    """Return a row as one CloudEvents JSON object; JSON data stands in it as it was logged."""
    event = batch.event(row)
    given = {
        "id": event["id"],
        "source": event["source"],
        "type": event["type"],
        "subject": event["subject"],
        "time": event["time"],
        "dataschema": event["dataschema"],
        "datacontenttype": event["datacontenttype"],
    }
    attributes: dict[str, object] = {"specversion": "1.0"}
    attributes.update({name: value for name, value in given.items() if value is not None})
    extensions = event["extensions"]
    if extensions:
        attributes.update(msgspec.json.decode(extensions, type=dict[str, object]))
    attributes.update(more)
    text = json.dumps(attributes, ensure_ascii=False)
    data = event["data"]
    if event["opaque"] or not data:
        return text
    return f'{text[:-1]}, "data": {data.decode("utf-8", errors="replace")}}}'
