"""Real servers, one of each version, shared by all tests; each test has its own database."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.flushing import Rig, query
from support.postgres import Server, installations, server

FORGET = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()
      AND backend_type = 'client backend';
DROP SCHEMA IF EXISTS certeus CASCADE;
"""


@pytest.fixture(scope="session", params=sorted(installations()))
def postgres(request: pytest.FixtureRequest) -> Iterator[Server]:
    with server(installations()[request.param]) as running:
        yield running


@pytest.fixture
def database(postgres: Server) -> str:
    """The DSN of a database without the schema; the same one each time, which is quicker."""
    dsn = postgres.dsn()

    async def empty() -> None:
        async with query(dsn) as connection:
            await connection.execute(FORGET)

    asyncio.run(empty())
    return dsn


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "state")
    yield made
    made.close()
