"""Every producer's session, from the workers that serve them; asked only when somebody looks."""

import asyncio

from certeusd import histogram
from certeusd.channel import Session
from certeusd.control import types
from certeusd.control.types import rfc3339
from certeusd.supervisor.fleet import Fleet
from certeusd.supervisor.slot import Slot

ANSWER_TIMEOUT_S = 1.0
NS = 1e-9


class Census:
    """Asks all workers at once; who comes meanwhile gets the same answer."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._taking: asyncio.Task[types.Producers] | None = None

    async def take(self) -> types.Producers:
        """One row a session, within a second; workers that do not answer are named."""
        if self._taking is None or self._taking.done():
            self._taking = asyncio.get_running_loop().create_task(self._take())
        return await asyncio.shield(self._taking)

    async def _take(self) -> types.Producers:
        slots = self._fleet.workers
        pages = [list[types.Producer]() for _ in slots]
        whole = await asyncio.gather(*map(_ask, slots, pages))
        return types.Producers(
            types.SCHEMA_VERSION,
            [row for rows in pages for row in rows],
            [slot.name for slot, complete in zip(slots, whole, strict=True) if not complete],
        )


async def _ask(slot: Slot, rows: list[types.Producer]) -> bool:
    """Gather the rows of one worker, page by page. False: it has not told them all."""
    if slot.child is None or not slot.ready:
        return False
    child, first = slot.child, 0
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            while slot.child is child and (answer := slot.asking.ask(child, first)) is not None:
                sessions = await answer
                if sessions is None:
                    return False
                rows += [_row(slot, one) for one in sessions.sessions]
                if sessions.next is None:
                    return True
                first = sessions.next
    except TimeoutError:
        pass
    return False


def _row(slot: Slot, one: Session) -> types.Producer:
    p50, p99 = (histogram.quantile(one.ack_ns_buckets, share) for share in (0.5, 0.99))
    return types.Producer(
        worker=slot.index,
        session=one.number,
        tenant=one.tenant,
        source=one.source,
        uid=one.uid,
        pid=one.pid,
        since=rfc3339(one.connected_at),
        events_total=one.events,
        bytes_total=one.bytes,
        settled_total=one.settled,
        duplicates_total=one.duplicates,
        rejected=one.rejected,
        in_flight=one.in_flight,
        ring_bytes=one.ring_bytes,
        ring_used_bytes=one.ring_used,
        ack_p50_seconds=None if p50 is None else round(p50 * NS, 9),
        ack_p99_seconds=None if p99 is None else round(p99 * NS, 9),
        ack_ns_buckets=one.ack_ns_buckets,
    )
