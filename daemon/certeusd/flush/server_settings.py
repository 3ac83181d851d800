"""What a server is set to, for whoever asks from outside: `certeus doctor`."""

import asyncio
from collections.abc import Collection

import asyncpg

TIMEOUT_S = 5.0


class AwayError(Exception):
    """It could not be asked; the message says why."""


def read(dsn: str, names: Collection[str]) -> dict[str, str]:
    """Return settings by name, as `pg_settings` has them.

    Raises:
        AwayError: the server does not answer, or not to us.
    """
    try:
        return asyncio.run(_read(dsn, names))
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise AwayError(str(error) or type(error).__name__) from error


async def _read(dsn: str, names: Collection[str]) -> dict[str, str]:
    connection = await asyncpg.connect(dsn, timeout=TIMEOUT_S)
    try:
        rows = await connection.fetch(
            "SELECT name, setting FROM pg_settings WHERE name = ANY($1)", list(names)
        )
        return {row["name"]: row["setting"] for row in rows}
    finally:
        await connection.close()
