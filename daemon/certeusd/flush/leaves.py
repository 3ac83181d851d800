"""The partitions that rows need: made on demand and a day ahead, dropped by retention."""

import datetime
import time

import asyncpg

from certeusd.flush import schema
from certeusd.flush.connection import Link
from certeusd.flush.errors import Meaning, in_words, meaning_of
from certeusd.flush.reasons import Reasons
from certeusd.logs import Logger

CODE = "postgres-leaves"
RETRY_S = 300.0
"""After an error of the server; what rows need now is asked for with them."""


def kept_from(retention_days: int) -> datetime.date:
    """Return the first day (UTC) that retention keeps; 0 days: it keeps all."""
    if not retention_days:
        return datetime.date.min
    return datetime.datetime.now(datetime.UTC).date() - datetime.timedelta(days=retention_days)


class Leaves:
    """The leaves that are known to be there; a new connection knows none."""

    def __init__(self, retention_days: int, reasons: Reasons, log: Logger) -> None:
        self._retention_days = retention_days
        self._reasons = reasons
        self._log = log
        self._known: set[int] = set()
        self._looked_on = 0
        self._not_before = 0.0

    def forget(self) -> None:
        """Another server may be behind the name, or somebody dropped one."""
        self._known.clear()
        self._looked_on = 0

    async def need(self, link: Link, day: int) -> None:
        """Have the leaf of a UTC day (YYYYMMDD), made if it is not there.

        Raises:
            SchemaError: we may not make it.
        """
        if day not in self._known:
            await link.run(schema.make_leaf(link.connection, day))
            self._known.add(day)

    async def look_after(self, link: Link) -> None:
        """Once a day: the leaves of today and tomorrow, and those beyond retention."""
        today = datetime.datetime.now(datetime.UTC).date()
        if self._looked_on == today.toordinal() or time.monotonic() < self._not_before:
            return
        try:
            for date in (today, today + datetime.timedelta(days=1)):
                await self.need(link, date.year * 10_000 + date.month * 100 + date.day)
            if self._retention_days:
                before = kept_from(self._retention_days)
                dropped = await link.run(schema.drop_leaves(link.connection, before))
                if dropped:
                    self._log.info("leaves_dropped", count=len(dropped), last=dropped[-1])
                self._known = {day for day in self._known if schema.leaf_name(day) not in dropped}
            self._reasons.end(CODE)
        except schema.SchemaError as error:
            # Not fatal here: the leaf may be needed by nobody, or be made by a DBA in time.
            self._reasons.begin(CODE, error.what, error.next_step)
        except asyncpg.PostgresError as error:
            # Nor is what keeps an old leaf from being dropped: a long reader, a view on it.
            if link.connection.is_closed() or meaning_of(error) is Meaning.BROKEN:
                raise
            self._not_before = time.monotonic() + RETRY_S
            what = f"cannot make the next partitions or drop old ones: {in_words(error)}"
            next_step = (
                "Look at the partitions of certeus.events, at what depends on them, and at sessions"
                " that read them for long (pg_locks). Delivery goes on; this is tried again every"
                f" {RETRY_S / 60:g} minutes."
            )
            if self._reasons.begin(CODE, what, next_step):
                self._log.warning("leaves_not_kept", error=str(error))
            return
        self._looked_on = today.toordinal()
