"""Asks a PostgreSQL whether certeus could deliver to it, and changes nothing: `check --probe`."""

import asyncio
from typing import NamedTuple

import asyncpg

from certeusd.flush import schema
from certeusd.flush.errors import FlushError

SERVER_VERSION_MAX = 189_999


class Answer(NamedTuple):
    """What was found; without `next_step` all is well."""

    reached: bool
    what: str
    next_step: str = ""


def ask(dsn: str, timeout_s: float) -> Answer:
    """Connect and look at version, settings, schema and grants, within `timeout_s` seconds."""
    try:
        return asyncio.run(asyncio.wait_for(_ask(dsn, timeout_s), timeout_s))
    except TimeoutError:
        what = f"no answer within {timeout_s:.1f} s"
    except (asyncpg.CannotConnectNowError, asyncpg.PostgresConnectionError, OSError) as error:
        what = str(error)
    except FlushError as error:
        return Answer(True, error.what, error.next_step)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        what = str(error).partition("\n")[0]
        return Answer(True, what, "Correct postgres.dsn, its password, or pg_hba.conf there.")
    return Answer(False, what or "no answer", "Start the server, or correct postgres.dsn.")


async def _ask(dsn: str, timeout_s: float) -> Answer:
    connection = await asyncpg.connect(
        dsn, timeout=timeout_s, server_settings={"default_transaction_read_only": "on"}
    )
    try:
        version = await schema.check_server(connection)
        if version > SERVER_VERSION_MAX:
            what = f"PostgreSQL {version // 10_000} is newer than this certeus knows"
            return Answer(True, what, "Use PostgreSQL 15 to 18, or a newer certeus.")
        there = await schema.look(connection)
        told = "its schema certeus can be used" if there else "schema certeus will be made"
        return Answer(True, f"PostgreSQL {version // 10_000}, {told}")
    finally:
        connection.terminate()
