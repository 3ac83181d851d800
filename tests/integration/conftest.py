"""Real servers, one of each version, shared by all tests; each test has its own database."""

import asyncio
import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.flushing import Rig, query
from support.postgres import Server, installations, server

_numbers = itertools.count(1)


@pytest.fixture(scope="session", params=sorted(installations()))
def postgres(request: pytest.FixtureRequest) -> Iterator[Server]:
    with server(installations()[request.param]) as running:
        yield running


@pytest.fixture(scope="session")
def postgres18() -> Iterator[Server]:
    with server(installations()["postgres18"]) as running:
        yield running


def make_database(running: Server, options: str = "") -> str:
    name = f"test{next(_numbers)}"

    async def create() -> None:
        async with query(running.dsn()) as connection:
            await connection.execute(f"CREATE DATABASE {name} {options}")

    asyncio.run(create())
    return name


@pytest.fixture
def database(postgres: Server) -> str:
    """The DSN of an empty database."""
    return postgres.dsn(make_database(postgres))


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "state")
    yield made
    made.close()
