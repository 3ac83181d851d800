"""Whether PostgreSQL has what became durable, each event once: asked by SQL, when all is there."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import asyncpg
import msgspec

from certeus_bench.load.producer import Report
from certeus_bench.load.sampling import Target
from certeusd.exits import ExitError

CHECKSUM_VERSION = 18
"""The first PostgreSQL that has crc32()."""
READ = """
SELECT source, count(*), count(DISTINCT ticket), {checksum}
    FROM certeus.events WHERE seq > $1 AND source = ANY($2) GROUP BY source
"""
CHECKSUM = "sum(crc32(convert_to(data::text, 'UTF8')))"


class Found(NamedTuple):
    """The rows of one producer."""

    rows: int = 0
    """All of them; those with different tickets."""
    different: int = 0
    read_sum: int | None = None


class Rows(NamedTuple):
    """What PostgreSQL holds of a load."""

    total: int
    sums: tuple[int, int] | None
    """Checksums of all that was written and read; None where the server cannot tell."""
    faults: list[str]


class _Dsn(msgspec.Struct):
    dsn: str


def read(target: Target, reports: Sequence[Report], after_seq: int, timeout_s: float) -> Rows:
    """Wait until all is flushed, and count.

    Raises:
        ExitError: it is not flushed in time, or nobody answers.
    """
    control = target.control
    try:
        control.get("/v1/wait", wait_s=timeout_s, until="flushed", timeout_s=f"{timeout_s:.0f}")
    except ExitError as error:
        raise ExitError(
            error.code, f"{error}; give --flush-timeout more seconds, or --no-rows"
        ) from error
    asked = control.get("/v1/dsn", wait_s=timeout_s, timeout_s="30", show_password="1")
    dsn = msgspec.convert(asked, _Dsn).dsn
    found = asyncio.run(_fetch(dsn, after_seq, [report.source for report in reports]))
    return judged(reports, found)


def judged(reports: Sequence[Report], found: dict[str, Found]) -> Rows:
    """What was found by source, held against what producers were told."""
    faults: list[str] = []
    for report in reports:
        rows = found.get(report.source, Found())
        if not rows.rows == rows.different == report.accepted:
            faults.append(
                f"{report.source}: {report.accepted:,} events are durable, PostgreSQL has"
                f" {rows.rows:,} rows of {rows.different:,}"
            )
    told = [rows.read_sum for rows in found.values()]
    sums = None
    if all(one is not None for one in told):
        written = sum(report.written_sum for report in reports) % 2**64
        sums = (written, sum(one or 0 for one in told) % 2**64)
        if not faults and sums[0] != sums[1]:
            faults.append(f"rows are not what was offered: checksum {sums[1]}, not {sums[0]}")
    return Rows(sum(rows.rows for rows in found.values()), sums, faults)


async def _fetch(dsn: str, after_seq: int, sources: list[str]) -> dict[str, Found]:
    connection = await asyncpg.connect(dsn)
    try:
        has_checksum = connection.get_server_version().major >= CHECKSUM_VERSION
        query = READ.format(checksum=CHECKSUM if has_checksum else "NULL")
        return {
            source: Found(rows, different, None if total is None else int(total))
            for source, rows, different, total in await connection.fetch(query, after_seq, sources)
        }
    finally:
        await connection.close()
