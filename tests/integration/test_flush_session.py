"""What a session with PostgreSQL relies on, whatever the database's own settings are."""

import asyncio

import pytest

from certeusd.flush.connection import Link
from support.flushing import Rig, query

pytestmark = pytest.mark.integration

WEAK = {"synchronous_commit": "off", "default_transaction_isolation": "serializable"}


def test_a_database_that_is_set_to_forget_commits_does_not_make_the_session_forget_them(
    rig: Rig, database: str
) -> None:
    async def run() -> None:
        async with query(database) as connection:
            for name, value in WEAK.items():
                await connection.execute(f"ALTER ROLE CURRENT_USER SET {name} = '{value}'")
            try:
                link = await Link.open(database, rig.uuid)
                shown = {name: await link.connection.fetchval(f"SHOW {name}") for name in WEAK}
                await link.close()
            finally:
                # Its own session began before the change.
                await connection.execute("ALTER ROLE CURRENT_USER RESET ALL")
        assert shown == {
            "synchronous_commit": "on",
            "default_transaction_isolation": "read committed",
        }

    asyncio.run(run())
