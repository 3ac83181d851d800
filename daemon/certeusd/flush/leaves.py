"""The partitions that rows need: made on demand and a day ahead, dropped by retention."""

import datetime

from certeusd.flush import schema
from certeusd.flush.connection import Link
from certeusd.flush.reasons import Reasons
from certeusd.logs import Logger

CODE = "postgres-leaves"


class Leaves:
    """The leaves that are known to be there; a new connection knows none."""

    def __init__(self, retention_days: int, reasons: Reasons, log: Logger) -> None:
        self._retention_days = retention_days
        self._reasons = reasons
        self._log = log
        self._known: set[int] = set()
        self._looked_on = 0

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
        if self._looked_on == today.toordinal():
            return
        try:
            for date in (today, today + datetime.timedelta(days=1)):
                await self.need(link, date.year * 10_000 + date.month * 100 + date.day)
            if self._retention_days:
                before = today - datetime.timedelta(days=self._retention_days)
                dropped = await link.run(schema.drop_leaves(link.connection, before))
                if dropped:
                    self._log.info("leaves_dropped", count=len(dropped), last=dropped[-1])
                self._known = {day for day in self._known if schema.leaf_name(day) not in dropped}
            self._reasons.end(CODE)
        except schema.SchemaError as error:
            # Not fatal here: the leaf may be needed by nobody, or be made by a DBA in time.
            self._reasons.begin(CODE, error.what, error.next_step)
        self._looked_on = today.toordinal()
