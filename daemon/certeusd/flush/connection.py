"""A connection for the flusher: its settings, its end, and a deadline on every step.

asyncpg may wait for ever when a server is killed in the middle of a COPY, and `close()` may too. So
each step runs as a task of its own beside the connection's end and a deadline on progress; when
either comes first, the connection is terminated and the step is given up.
"""

import asyncio
import contextlib
import uuid
from collections.abc import Coroutine
from typing import Any, TypeVar

import asyncpg

from certeusd.flush.errors import StalledError
from certeusd.flush.types import Connection

Result = TypeVar("Result")
CONNECT_TIMEOUT_S = 10.0
LOCK_TIMEOUT_S = 5.0
STALL_TIMEOUT_S = 60.0
_GRACE_S = 1.0

_LOCK_HOLDERS = """
SELECT string_agg(DISTINCT format('%s (%s, %s)', pid,
    coalesce(nullif(application_name, ''), 'no name'),
    CASE wait_event WHEN 'SyncRep' THEN 'waits for a standby'
        ELSE coalesce(state, 'state not shown') END), ', ')
FROM pg_locks JOIN pg_stat_activity USING (pid) JOIN pg_class ON pg_class.oid = relation
WHERE granted AND pid <> pg_backend_pid() AND relnamespace = 'certeus'::regnamespace
    AND mode <> 'AccessShareLock' AND pg_locks.database =
        (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_TERMINATE_OTHERS = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
    " WHERE application_name = current_setting('application_name')"
    " AND pid <> pg_backend_pid() AND usename = current_user AND datname = current_database()"
    # One that waits for a standby has committed here: to end its wait would hide that it is not
    # there.
    " AND wait_event IS DISTINCT FROM 'SyncRep'"
)


def application_name(log_uuid: uuid.UUID) -> str:
    """Return the name under which the flusher of a log is seen in `pg_stat_activity`."""
    return f"certeus:{log_uuid}"


def settings_of(log_uuid: uuid.UUID, lock_timeout_s: float, beside: str = "") -> dict[str, str]:
    """Return the settings of a session, whatever the role's or the database's defaults are.

    A default of `default_transaction_read_only` is kept: it is how a DBA, or a service whose disk
    runs full, says that nothing may be written now.

    The keepalives are the server's: it then notices within a minute that we are gone, and gives up
    the row lock that a successor of ours would wait for. Over a Unix socket they mean nothing.
    """
    return {
        "application_name": application_name(log_uuid) + beside,
        "synchronous_commit": "on",
        "default_transaction_isolation": "read committed",
        "lock_timeout": f"{round(lock_timeout_s * 1000)}ms",
        "statement_timeout": "0",
        "tcp_keepalives_idle": "30",
        "tcp_keepalives_interval": "10",
        "tcp_keepalives_count": "3",
        "search_path": "pg_catalog",
    }


class Link:
    """One connection, and whatever runs on it; used by one task at a time."""

    def __init__(self, connection: Connection, stall_timeout_s: float = STALL_TIMEOUT_S) -> None:
        self.connection = connection
        self._stall_timeout_s = stall_timeout_s
        self._moved = False
        self.lost = asyncio.Event()
        connection.add_termination_listener(self._on_termination)

    def _on_termination(self, _: object) -> None:
        self.lost.set()

    @staticmethod
    async def open(
        dsn: str,
        log_uuid: uuid.UUID,
        stall_timeout_s: float = STALL_TIMEOUT_S,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
        beside: str = "",
    ) -> "Link":
        """Connect; password, TLS and `sslmode` are asyncpg's business.

        What is no delivery has a name of its own: `beside` stands behind the delivery's.
        """
        settings = settings_of(log_uuid, lock_timeout_s, beside)
        connection = await asyncpg.connect(dsn, timeout=CONNECT_TIMEOUT_S, server_settings=settings)
        return Link(connection, stall_timeout_s)

    def moved(self) -> None:
        """Tell that a step has got on: its deadline starts again."""
        self._moved = True

    async def run(self, step: Coroutine[Any, Any, Result]) -> Result:
        """Await `step`, at most until the connection ends or nothing has moved for too long.

        Raises:
            StalledError: the server did not answer; the connection is terminated.
            ConnectionError: the connection ended and the step did not notice.
        """
        task = asyncio.ensure_future(step)
        lost = asyncio.ensure_future(self.lost.wait())
        try:
            while True:
                self._moved = False
                done, _ = await asyncio.wait(
                    {task, lost},
                    timeout=self._stall_timeout_s,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if task in done:
                    return task.result()
                if lost in done:
                    await asyncio.wait({task}, timeout=_GRACE_S)
                    if task.done():
                        return task.result()
                    raise ConnectionResetError("the connection to PostgreSQL was lost")
                if not self._moved:
                    raise StalledError(
                        f"PostgreSQL has not answered for {self._stall_timeout_s:g} s",
                        "Look at the server: is it stopped, waiting for a lock or a disk, or slow"
                        " for a trigger? Batches become smaller until it can take them.",
                    )
        finally:
            lost.cancel()
            if not task.done():
                self.connection.terminate()
                task.cancel()
                await asyncio.wait({task}, timeout=_GRACE_S)
            task.add_done_callback(_forget)

    async def close(self) -> None:
        """End the connection, politely if the server answers."""
        if not self.connection.is_closed():
            try:
                await asyncio.wait_for(self.connection.close(), _GRACE_S)
            except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                self.connection.terminate()

    async def terminate_others(self) -> int:
        """End other sessions of this very log: the zombies of a life before this one."""
        with contextlib.suppress(asyncpg.InsufficientPrivilegeError):
            return int(await self.run(self.connection.fetchval(_TERMINATE_OTHERS)) or 0)
        return 0

    async def lock_holders(self) -> str:
        """Name the sessions that hold locks on our tables, for a human; empty if none is seen."""
        return str(await self.run(self.connection.fetchval(_LOCK_HOLDERS)) or "")


def _forget(task: asyncio.Future[Any]) -> None:
    """Take the outcome of a step that was given up, so that asyncio does not complain."""
    if not task.cancelled():
        task.exception()
