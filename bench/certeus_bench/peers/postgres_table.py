"""A PostgreSQL with a table like ``certeus.events``, for what peers bring there.

It is certeus's own embedded server, started by a certeusd that has nothing else to do: the same
binaries, the same settings, on the disk under test.
"""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import asyncpg
import psutil

from certeus_bench import harness

EVENT_BYTES = 150
SCHEMA = "certeus"
TABLE = "peer"
NAME = f"{SCHEMA}.{TABLE}"
MAKE = f"CREATE TABLE {NAME} (LIKE certeus.events INCLUDING ALL)"
COUNT = f"SELECT count(*) FROM {NAME}"
READ = f"SELECT count(*), coalesce(sum(crc32(convert_to(data::text, 'UTF8'))), 0) FROM {NAME}"


class Table(NamedTuple):
    """An empty table."""

    dsn: str
    servers: list[psutil.Process]
    """The postmaster, whose children serve."""

    def run(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """Rows of one query, by a connection of its own."""
        return asyncio.run(_fetch(self.dsn, query, arguments))

    def row_count(self) -> int:
        """How many rows another connection sees."""
        (row,) = self.run(COUNT)
        count: int = row[0]
        return count

    def read_back(self) -> tuple[int, int]:
        """How many rows another connection sees, and their checksum (`producing.checksum`)."""
        (row,) = self.run(READ)
        return row[0], int(row[1]) % 2**64


async def _fetch(dsn: str, query: str, arguments: tuple[object, ...]) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetch(query, *arguments)
    finally:
        await connection.close()


@contextmanager
def made(home: Path) -> Generator[Table, None, None]:
    """The table, for the length of a block."""
    home.chmod(0o755)  # under root the server runs as another user, who must pass
    with harness.started(home) as daemon:
        dsn = daemon.dsn()
        children = psutil.Process(daemon.pid).children()
        table = Table(dsn, [child for child in children if child.name() == "postgres"])
        table.run(MAKE)
        yield table
