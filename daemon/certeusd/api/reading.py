"""`GET /v1/ledger/events`: what is durable, as lines, or as server-sent events that go on.

Both read the log itself, up to what is durable, with the caller's tenant as the one filter that it
cannot choose. A part is rendered in a thread, so that a cold disk keeps nobody else waiting, and
sent before the next one is read: who reads slowly costs one part of memory and holds no segment,
and is given up when it has taken nothing for a while.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, ParamSpec, TypeVar

from aiohttp import web

from certeusd.api.parameters import EVENT_STREAM, NDJSON, PAGE_EVENTS, PAGE_EVENTS_MAX, SEQ_MAX
from certeusd.api.peers import Caller
from certeusd.api.problems import ProblemError
from certeusd.api.routing import Context
from certeusd.api.slots import Slots
from certeusd.api.streams import QUIET_S, place, write
from certeusd.door_process import DoorProcess
from certeusd.log.reader import Filter
from certeusd.log.tailing import Form, Tailing

RECOVERED_S = 10.0
"""So long who asks waits for the log's first recovery, before which nobody knows what it holds."""
AHEAD_S = 0.2
"""A verdict may be out for so long before its number is known here to be durable."""
RELEASE_S = 1.0
"""Who waits for longer holds no segment, so that the space of a trimmed one is free again."""
POLL_S = 0.02
"""Between two looks at the durable seq while somebody follows."""
SUBSCRIBERS_MAX = 256
SUBSCRIBERS_PER_PEER_MAX = 64
THREADS = 8
"""That render at a time, for all readers."""
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Asked(NamedTuple):
    """What the query says."""

    after_seq: int | None
    wanted: Filter
    limit: int | None

    @classmethod
    def of(cls, query: dict[str, str], tenant: str) -> "Asked":
        """Read it.

        Raises:
            ProblemError: 400.
        """
        after = _number("after_seq", query["after_seq"], 0) if "after_seq" in query else None
        limit = _number("limit", query["limit"], 1) if "limit" in query else None
        wanted = Filter(tenant=tenant, type=query.get("type"), source=query.get("source"))
        return cls(after, wanted, limit)


def _number(name: str, text: str, least: int) -> int:
    digits = text.isascii() and text.isdecimal() and len(text) <= len(str(SEQ_MAX))
    if not digits or not least <= (number := int(text)) <= SEQ_MAX:
        raise _bad(f"{name} is a number from {least} on")
    return number


class Reading:
    """The durable log, for whoever asks; knows who follows it."""

    def __init__(self, process: DoorProcess) -> None:
        self._process = process
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="reading")
        """Of its own: what else waits in a thread keeps no reader waiting."""
        self._subscribers = Slots(SUBSCRIBERS_MAX, SUBSCRIBERS_PER_PEER_MAX)
        self._show()  # Nobody follows yet, whatever the life before this one has left there.

    @property
    def durable_seq(self) -> int:
        """All up to here is durable."""
        return self._process.board.get("durability", "durable_seq")

    async def _in_thread(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, partial(work, *args, **kwargs))

    @contextlib.asynccontextmanager
    async def _read(self, asked: Asked, after_seq: int, form: Form) -> AsyncGenerator[Tailing]:
        """Read for as long as the block lasts; then no segment is held, whoever remembers it."""
        log_dir = self._process.paths.log
        tailing = await self._in_thread(Tailing, log_dir, asked.wanted, after_seq, form=form)
        try:
            yield tailing
        finally:
            await self._in_thread(tailing.release)

    async def lines(self, asked: Asked, request: web.BaseRequest) -> web.StreamResponse:
        """Send at most `limit` events as NDJSON; the next page begins behind the last one."""
        limit = min(asked.limit or PAGE_EVENTS, PAGE_EVENTS_MAX)
        await self._check_recovered(request)
        await self._check_reached(asked.after_seq or 0)
        until_seq = self.durable_seq
        answer = web.StreamResponse(headers={"Content-Type": NDJSON})
        async with self._read(asked, asked.after_seq or 0, "events") as tailing:
            await answer.prepare(request)
            while limit and not _has_gone(request):
                part = await self._in_thread(
                    tailing.read, until_seq, until_seq=until_seq, limit=limit
                )
                if part is None:
                    break
                limit -= part.events
                if part.bytes:
                    await self._send(answer, part.bytes, tailing)
            await answer.write_eof()
        return answer

    async def follow(
        self, asked: Asked, caller: Caller, request: web.BaseRequest
    ) -> web.StreamResponse:
        """Send events as they become durable, until the client goes or the process drains."""
        await self._check_recovered(request)
        after_seq = self._resume(asked, request)
        await self._check_reached(after_seq)
        async with contextlib.AsyncExitStack() as held:
            held.callback(self._show)
            held.enter_context(place(self._subscribers, caller))
            self._show()
            tailing = await held.enter_async_context(self._read(asked, after_seq, "sse"))
            answer = web.StreamResponse(
                headers={"Content-Type": EVENT_STREAM, "Cache-Control": "no-store"}
            )
            await answer.prepare(request)
            # Who comes again before the first event goes on from here, too.
            await write(answer, b"retry: 1000\n\nid: %d\n\n" % after_seq)
            parts = self._parts(tailing, asked.limit, request)
            async with contextlib.aclosing(parts):
                async for part in parts:
                    await self._send(answer, part, tailing)
            return answer

    async def _send(self, answer: web.StreamResponse, part: bytes, tailing: Tailing) -> None:
        """Send a part; while its reader takes its time, no segment is held for it."""
        sending = asyncio.ensure_future(write(answer, part))
        try:
            await asyncio.wait({sending}, timeout=RELEASE_S)
            if not sending.done():
                await self._in_thread(tailing.release)
            await sending
        finally:
            sending.cancel()

    async def _within(self, seconds: float, holds: Callable[[], bool]) -> bool:
        """Whether it holds within so many seconds."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while not holds():
            if loop.time() >= until:
                return False
            await asyncio.sleep(POLL_S)
        return True

    async def _check_recovered(self, request: web.BaseRequest) -> None:
        """Wait for the log's first recovery: until then its end is not known to be one.

        Raises:
            ProblemError: 503.
        """

        def known() -> bool:
            return self._process.board.get("log", "epoch") > 0

        draining = self._process.draining
        await self._within(RECOVERED_S, lambda: known() or draining.is_set() or _has_gone(request))
        if not known():
            raise ProblemError(
                503, "recovering", "the log is being recovered",
                "what is durable is not known yet: try again; certeus status says how far it is",
                headers={"Retry-After": "1"},
            )  # fmt: skip

    async def _check_reached(self, after_seq: int) -> None:
        """Refuse a number that no event has: it is of another log, or of what this one has lost.

        Raises:
            ProblemError: 409.
        """
        if not await self._within(AHEAD_S, lambda: after_seq <= self.durable_seq):
            raise ProblemError(
                409, "ahead", "ahead of the log",
                f"{after_seq} is not reached: the last durable number is {self.durable_seq};"
                " begin behind that one, and see whether the log was restored",
                members={"durable_seq": self.durable_seq},
            )  # fmt: skip

    def _resume(self, asked: Asked, request: web.BaseRequest) -> int:
        """Return behind which number to go on; a new subscriber begins at the end."""
        last = request.headers.get("Last-Event-ID")
        if last is not None:
            return _number("Last-Event-ID", last, 0)
        return self.durable_seq if asked.after_seq is None else asked.after_seq

    async def _parts(
        self, tailing: Tailing, limit: int | None, request: web.BaseRequest
    ) -> AsyncGenerator[bytes]:
        quiet_since = read_at = asyncio.get_running_loop().time()
        seen, holds = -1, True
        while not self._process.draining.is_set() and limit != 0:
            if _has_gone(request):
                return  # Its place is free now, not at the next event.
            now = asyncio.get_running_loop().time()
            durable = self.durable_seq
            part = None
            if durable != seen:
                part = await self._in_thread(tailing.read, durable, limit=limit)
                seen, holds, read_at = (durable if part is None else -1), True, now
            elif holds and now - read_at >= RELEASE_S:
                await self._in_thread(tailing.release)
                holds = False
            if part is not None and part.bytes:
                if limit is not None:
                    limit -= part.events
                quiet_since = now
                yield part.bytes
            elif now - quiet_since >= QUIET_S:
                quiet_since = now
                yield b": still here\n\n"
            elif part is None:
                await asyncio.sleep(POLL_S)

    def _show(self) -> None:
        self._process.gauge("subscribers", len(self._subscribers))


async def get_events(
    context: Context, caller: Caller, request: web.BaseRequest
) -> web.StreamResponse:
    """Send events, or follow them where the client accepts `text/event-stream`.

    Raises:
        ProblemError: 400 the query, 409 its number is not reached, 503 too many follow, or the
            log is being recovered.
    """
    asked = Asked.of(dict(request.query), context.process.config.api.tenant)
    if EVENT_STREAM in request.headers.get("Accept", ""):
        return await context.reading.follow(asked, caller, request)
    return await context.reading.lines(asked, request)


def _has_gone(request: web.BaseRequest) -> bool:
    return request.transport is None


def _bad(what: str) -> ProblemError:
    return ProblemError(400, "bad-request", "bad request", what)
