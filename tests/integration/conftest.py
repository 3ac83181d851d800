"""Real servers, one of each version, shared by all tests; each test has its own database."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.flushing import Rig, make_database
from support.postgres import Server, installations, server


@pytest.fixture(scope="session", params=sorted(installations()))
def postgres(request: pytest.FixtureRequest) -> Iterator[Server]:
    with server(installations()[request.param]) as running:
        yield running


@pytest.fixture(scope="session")
def postgres18() -> Iterator[Server]:
    with server(installations()["postgres18"]) as running:
        yield running


@pytest.fixture
def database(postgres: Server) -> str:
    """The DSN of an empty database."""
    return postgres.dsn(make_database(postgres))


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "state")
    yield made
    made.close()
