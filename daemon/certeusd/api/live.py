"""`GET /v1/ledger/live`: once a second what flows, to all who watch; asked for once for all.

```text
nobody ──somebody looks──▶ asks the supervisor, reads the log's end, 1/s ──▶ a Moment ──▶ watchers
   ▲──── for 20 s nobody has looked ────┘
```

A moment is encoded once for each form, however many watch. Who reads slowly gets the next moment
when it has taken the last one: nothing is kept for it.
"""

import asyncio
import contextlib
import time
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
from aiohttp import web

from certeusd.api import page_cells
from certeusd.api.about import Supervisor
from certeusd.api.last_events import EventRow, LastEvents
from certeusd.api.live_view import Live, durable_per_second, event_bytes, live
from certeusd.api.parameters import EVENT_STREAM
from certeusd.api.peers import Caller
from certeusd.api.problems import ProblemError
from certeusd.api.slots import Slots
from certeusd.api.streams import QUIET_S, place, write
from certeusd.control import types
from certeusd.control.sample import Sample
from certeusd.door_process import DoorProcess

EVERY_S = 1.0
FIRST_S = 0.25
"""Between the first two samples: who comes first sees rates, too."""
LOOK_S = 0.5
"""How long the log's end is waited for."""
LINGER_S = 20.0
"""A page without scripts comes again within it."""
WATCHERS_MAX, WATCHERS_PER_PEER_MAX = 64, 16
HISTORY = 120


class Moment(NamedTuple):
    """What is told at one time."""

    number: int
    live: Live
    parts: dict[str, bytes]
    """Server-sent events, by form."""


@dataclass(frozen=True)
class _Failed:
    """There are no numbers."""

    number: int
    problem: ProblemError


class Watching:
    """Makes moments while somebody looks."""

    def __init__(self, process: DoorProcess, supervisor: Supervisor) -> None:
        self._process = process
        self._supervisor = supervisor
        self._events = LastEvents(process.paths.log, process.config.api.tenant)
        self.watchers = Slots(WATCHERS_MAX, WATCHERS_PER_PEER_MAX)
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()
        self._now: Moment | _Failed | None = None
        self._wanted_at = 0.0
        self._number = 0
        self._looking: asyncio.Task[list[EventRow]] | None = None
        self._rows: list[EventRow] = []

    # --- for who looks ---------------------------------------------------------------------------

    async def moment(self, after: int = 0) -> Moment:
        """Return the newest moment, one later than `after`; it waits for it.

        Raises:
            ProblemError: 503, there are no numbers now.
        """
        self._wanted_at = time.monotonic()
        if self._task is None:
            self._now = None
            self._task = asyncio.get_running_loop().create_task(self._run())
        async with self._changed:
            await self._changed.wait_for(
                lambda: (self._now is not None and self._now.number > after) or self._task is None
            )
        if isinstance(self._now, Moment) and self._now.number > after:
            return self._now
        if isinstance(self._now, _Failed):
            raise self._now.problem
        raise ProblemError(503, "draining", "ends just now", "this process ends; ask again")

    @property
    def draining(self) -> bool:
        """Whether the process ends."""
        return self._process.draining.is_set()

    # --- once a second ---------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            before = await self._sample()
            pause_s = FIRST_S
            history = deque[float](maxlen=HISTORY)
            while not await self._drains_within(pause_s):
                pause_s = EVERY_S
                if not self.watchers and time.monotonic() - self._wanted_at > LINGER_S:
                    break
                after = await self._sample()
                await self._tell(before, after, history)
                before = after
        except ProblemError as error:
            self._fail(error)
        except Exception as error:  # the boundary: who waits for a moment is answered
            self._process.logger.error("api_watch_failed", exc_info=error)
            self._fail(ProblemError(500, "bug", "bug", f"{type(error).__name__}: see the log"))
        finally:
            self._task = None
            async with self._changed:
                self._changed.notify_all()

    def _fail(self, problem: ProblemError) -> None:
        self._number += 1
        self._now = _Failed(self._number, problem)

    async def _drains_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._process.draining.wait()
        return self.draining

    async def _sample(self) -> Sample:
        status = msgspec.json.decode(await self._ask("/v1/status"), type=types.Status)
        status_at = time.monotonic()
        producers = msgspec.json.decode(await self._ask("/v1/producers"), type=types.Producers)
        return Sample(
            at=time.time(),
            status=status,
            status_at=status_at,
            producers=producers,
            producers_at=time.monotonic(),
            followers=None,
        )

    async def _ask(self, path: str) -> bytes:
        status, _, body = await self._supervisor.ask(path)
        if status != 200:
            raise ProblemError(
                503,
                "no-supervisor",
                "no answer from the supervisor",
                f"{path}: {status}; try again",
            )
        return body

    async def _tell(self, before: Sample, after: Sample, history: deque[float]) -> None:
        speed = durable_per_second(before, after)
        if speed is not None:
            history.append(speed)
        events = await self._last_events(event_bytes(after))
        told = live(before, after, self._process.config.api.tenant, events, history)
        self._number += 1
        parts = {
            "numbers": b"data: %b\n\n" % msgspec.json.encode(told),
            "page": b"event: page\ndata: %b\n\n" % msgspec.json.encode(page_cells.cells(told)),
        }
        async with self._changed:
            self._now = Moment(self._number, told, parts)
            self._changed.notify_all()

    async def _last_events(self, event_bytes: float) -> list[EventRow]:
        """Look at the log's end; while its disk hangs, the numbers go on without it."""
        if self._looking is None:
            durable_seq = self._process.board.get("durability", "durable_seq")
            look = asyncio.to_thread(self._events.look, durable_seq, event_bytes)
            self._looking = asyncio.get_running_loop().create_task(look)
        looking = self._looking
        done, _ = await asyncio.wait({looking}, timeout=LOOK_S)
        if done:
            self._looking = None
            self._rows = looking.result()
        return self._rows


async def follow(
    watching: Watching, caller: Caller, request: web.BaseRequest, form: str, limit: int
) -> web.StreamResponse:
    """Send so many moments at most, until the client goes or the process drains."""
    with place(watching.watchers, caller):
        moment = await watching.moment()
        answer = web.StreamResponse(
            headers={"Content-Type": EVENT_STREAM, "Cache-Control": "no-store"}
        )
        await answer.prepare(request)
        await write(answer, b"retry: 1000\n\n" + moment.parts[form])
        while limit > 1 and not watching.draining:
            try:
                async with asyncio.timeout(QUIET_S):
                    moment = await watching.moment(moment.number)
            except TimeoutError:
                await write(answer, b": still here\n\n")
            except ProblemError:
                return answer  # It comes again, and is told then.
            else:
                limit -= 1
                await write(answer, moment.parts[form])
        return answer
