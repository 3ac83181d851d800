"""The schema `certeus`: made when it is not there, compared when it is; leaves; grants.

`schema.sql` is the whole of it, for certeus and for a DBA alike. Leaves are made by the function
`certeus.make_leaf`, which runs as the schema's owner, so that a daemon with only the grants named
in `schema.sql` gets its leaves too.
"""

import datetime
import uuid
from importlib.resources import files
from typing import Literal

import asyncpg

from certeusd.failpoint import failpoint
from certeusd.flush.errors import FlushError
from certeusd.flush.types import Connection

VERSION = 1
SERVER_VERSION_MIN = 150_000
SEQ_MAX = 2**63 - 1

_TABLES = {
    "events": ("SELECT", "INSERT"),
    "dead_letters": ("SELECT", "INSERT"),
    "gaps": ("SELECT", "INSERT"),
    "logs": ("SELECT", "INSERT", "UPDATE"),
    "flush_position": ("SELECT", "INSERT", "UPDATE"),
    "schema_version": ("SELECT",),
}

_JSON_COLUMN = "    data         json,\n"


class SchemaError(FlushError):
    """The schema is missing, of another version, or not granted to us."""


class ServerError(FlushError):
    """The server is set up so that certeus could not keep its promises on it."""


def ddl(data: Literal["json", "jsonb"] = "json") -> str:
    """Return the schema as SQL text; `data` is the type of the column that holds the data."""
    text = files("certeusd.flush").joinpath("schema.sql").read_text("utf-8")
    assert text.count(_JSON_COLUMN) == 1
    return text.replace(_JSON_COLUMN, _JSON_COLUMN.replace("json", data))


async def check_server(connection: Connection) -> int:
    """Look at the settings that decide whether a commit means anything.

    Returns:
        The server's version number, such as 180001.

    Raises:
        ServerError: a setting is wrong, with what to do.
    """
    row = await connection.fetchrow(
        "SELECT current_setting('server_version_num')::int AS version,"
        " current_setting('server_encoding') AS encoding, current_setting('fsync') AS fsync,"
        " current_setting('full_page_writes') AS full_page_writes"
    )
    assert row is not None
    version = int(row["version"])
    if version < SERVER_VERSION_MIN:
        raise ServerError(
            f"PostgreSQL {version // 10_000} is too old", "Use PostgreSQL 15 or later."
        )
    if row["encoding"] != "UTF8":
        raise ServerError(
            f"the database's encoding is {row['encoding']}",
            "Make a database with ENCODING 'UTF8' TEMPLATE template0 and name it in postgres.dsn.",
        )
    for name in ("fsync", "full_page_writes"):
        if row[name] != "on":
            raise ServerError(
                f"the server runs with {name}={row[name]}: what it commits may be lost",
                f"Set {name} = on in postgresql.conf and reload the server.",
            )
    return version


async def ensure(connection: Connection, data: Literal["json", "jsonb"]) -> bool:
    """Make the schema if there is none; check version and grants.

    Returns:
        Whether the column `data` is jsonb; an existing schema decides that, not `data`.

    Raises:
        SchemaError: with what a DBA must do.
    """
    if not await _is_there(connection):
        await _make(connection, data)
    await _check_usable(connection)
    kind = await connection.fetchval(
        "SELECT format_type(atttypid, NULL) FROM pg_attribute"
        " WHERE attrelid = 'certeus.events'::regclass AND attname = 'data'"
    )
    return bool(kind == "jsonb")


async def look(connection: Connection) -> bool:
    """Whether there is a schema, which is then of our version and granted to us; makes nothing.

    Raises:
        SchemaError: it cannot be used, or there is none and we may not make one.
    """
    if await _is_there(connection):
        await _check_usable(connection)
        return True
    role, database = await _names(connection)
    if not await connection.fetchval("SELECT has_database_privilege($1, 'CREATE')", database):
        raise SchemaError(
            "there is no schema certeus, and it may not be made", _may_make(role, database)
        )
    return False


async def _is_there(connection: Connection) -> bool:
    known = "SELECT nspname FROM pg_namespace WHERE nspname = 'certeus'"
    return bool(await connection.fetch(known))


async def _check_usable(connection: Connection) -> None:
    await _check_grants(connection)
    version = await connection.fetchval("SELECT max(version) FROM certeus.schema_version")
    if version != VERSION:
        raise SchemaError(
            f"the schema certeus has version {version}, this certeus knows {VERSION}",
            "Run the certeus that made it, or another database.",
        )


def _may_make(role: str, database: str) -> str:
    return (
        f'GRANT CREATE ON DATABASE "{database}" TO "{role}"; or let a DBA run'
        " `certeusd schema | psql`."
    )


async def _make(connection: Connection, data: Literal["json", "jsonb"]) -> None:
    try:
        await connection.execute(ddl(data))
    except asyncpg.InsufficientPrivilegeError as error:
        await connection.execute("ROLLBACK")
        role, database = await _names(connection)
        raise SchemaError(
            f"cannot make the schema certeus: {error}", _may_make(role, database)
        ) from error


async def _names(connection: Connection) -> tuple[str, str]:
    row = await connection.fetchrow("SELECT current_user AS role, current_database() AS name")
    assert row is not None
    return str(row["role"]), str(row["name"])


async def _check_grants(connection: Connection) -> None:
    role, _ = await _names(connection)
    if not await connection.fetchval("SELECT has_schema_privilege('certeus', 'USAGE')"):
        raise SchemaError(
            "cannot use the schema certeus", f'GRANT USAGE ON SCHEMA certeus TO "{role}";'
        )
    missing: list[str] = []
    for table, privileges in _TABLES.items():
        name = f"certeus.{table}"
        if await connection.fetchval("SELECT to_regclass($1)", name) is None:
            raise SchemaError(
                f"the schema certeus has no table {table}",
                "Let its owner run `certeusd schema | psql`.",
            )
        lacks = [
            privilege
            for privilege in privileges
            if not await connection.fetchval("SELECT has_table_privilege($1, $2)", name, privilege)
        ]
        if lacks:
            missing.append(f'GRANT {", ".join(lacks)} ON {name} TO "{role}";')
    if missing:
        raise SchemaError(f"{role} lacks grants on the schema certeus", " ".join(missing))


async def log_id(connection: Connection, log_uuid: uuid.UUID, host: str) -> int:
    """Return the number of this log in this database, giving it one the first time."""
    found = await connection.fetchval("SELECT log_id FROM certeus.logs WHERE uuid = $1", log_uuid)
    if found is None:
        await connection.execute(
            "INSERT INTO certeus.logs (uuid, host) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            log_uuid,
            host,
        )
        found = await connection.fetchval(
            "SELECT log_id FROM certeus.logs WHERE uuid = $1", log_uuid
        )
    assert isinstance(found, int)
    return found


def leaf_name(day: int) -> str:
    """Return the leaf of a UTC day given as YYYYMMDD."""
    return f"events_{day:08d}"


def date_of(day: int) -> datetime.date:
    """Return a day given as YYYYMMDD."""
    return datetime.date(day // 10_000, day // 100 % 100, day % 100)


async def make_leaf(connection: Connection, day: int) -> None:
    """Make the leaf of a UTC day (YYYYMMDD), if it is not there; not within a transaction.

    Raises:
        SchemaError: we may not, with what a DBA must do.
    """
    leaf = leaf_name(day)
    ready = await connection.fetchval(
        "SELECT has_table_privilege(c.oid, 'INSERT') FROM pg_inherits JOIN pg_class c"
        " ON c.oid = inhrelid WHERE inhparent = 'certeus.events'::regclass AND relname = $1",
        leaf,
    )
    if ready:
        return
    try:
        failpoint("flush-before-leaf")
        await connection.execute("SELECT certeus.make_leaf($1)", date_of(day))
        failpoint("flush-after-leaf")
    except (asyncpg.InsufficientPrivilegeError, asyncpg.UndefinedFunctionError) as error:
        role, _ = await _names(connection)
        raise SchemaError(
            f"cannot make the partition {leaf}: {error}",
            f'GRANT EXECUTE ON FUNCTION certeus.make_leaf(date) TO "{role}"; its owner needs'
            " CREATE on the schema certeus and must own certeus.events. Or make the partition"
            f' by hand and GRANT SELECT, INSERT ON certeus.{leaf} TO "{role}";',
        ) from error


async def drop_leaves(connection: Connection, before: datetime.date) -> list[str]:
    """Drop the leaves of days before `before`, for retention, and return their names."""
    try:
        rows = await connection.fetch("SELECT certeus.drop_leaves($1) AS leaf", before)
    except asyncpg.InsufficientPrivilegeError as error:
        role, _ = await _names(connection)
        raise SchemaError(
            f"cannot drop partitions older than postgres.retention_days: {error}",
            f'GRANT EXECUTE ON FUNCTION certeus.drop_leaves(date) TO "{role}";'
            " or set postgres.retention_days = 0.",
        ) from error
    return [str(row["leaf"]) for row in rows]
