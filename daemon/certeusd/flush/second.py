"""The second connection: opened when the flusher is far behind, kept while the first one lives.

It is a matter of speed alone. Where the server has no room for it, or where two transactions get in
each other's way (a unique index, or a trigger with a counter, on `events`), there is one again.
"""

import contextlib
import time
import uuid
from collections.abc import Generator

import asyncpg

from certeusd.flush.connection import Link
from certeusd.flush.errors import DESTINATION_ERRORS, BlockedError
from certeusd.flush.settings import Settings
from certeusd.logs import Logger

RETRY_S = 300.0
_IN_EACH_OTHERS_WAY = (BlockedError, asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)


async def open_link(settings: Settings, log_uuid: uuid.UUID) -> Link:
    """Connect as the settings say."""
    timeouts = settings.stall_timeout_s, settings.lock_timeout_s
    return await Link.open(settings.dsn, log_uuid, *timeouts)


class Second:
    """A connection beside the first one, where that is of use. One task uses it."""

    def __init__(self, settings: Settings, log: Logger) -> None:
        self._settings = settings
        self._log = log
        self._link: Link | None = None
        self._not_before = 0.0 if settings.postgres.connections > 1 else float("inf")

    async def beside(self, first: Link, log_uuid: uuid.UUID) -> list[Link]:
        """Return the links to deliver over: `first`, and another one if there is one."""
        if self._link is not None and self._link.lost.is_set():
            await self.close()
        if self._link is None and time.monotonic() >= self._not_before:
            try:
                self._link = await open_link(self._settings, log_uuid)
            except DESTINATION_ERRORS as error:
                self._go_without(error)
        return [first] if self._link is None else [first, self._link]

    @contextlib.contextmanager
    def watched(self) -> Generator[None]:
        """Do without it for a while when two transactions got in each other's way in the block."""
        try:
            yield
        except _IN_EACH_OTHERS_WAY as error:
            if self._link is not None:
                self._go_without(error)
            raise

    def _go_without(self, error: Exception) -> None:
        self._not_before = time.monotonic() + RETRY_S
        self._log.warning("second_connection_left", error=f"{type(error).__name__}: {error}")

    async def close(self) -> None:
        """End it, if there is one."""
        link, self._link = self._link, None
        if link is not None:
            await link.close()
