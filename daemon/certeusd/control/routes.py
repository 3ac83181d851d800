"""The control API: one table of routes, each row with its rule of access and its answer's type.

Every answer is JSON (`/metrics` is Prometheus text); every refusal is RFC 9457. Nothing here waits
for PostgreSQL or the log, so the API answers in every state; `wait` and `dsn` wait as long as they
are asked to, `producers` for the workers, a second at most, questions about dead letters for the
flusher, within a bound.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import NamedTuple

import msgspec
from aiohttp import web

from certeusd.board import WORKERS_MAX
from certeusd.control import dead_letters, followers, health, metrics
from certeusd.control.access import Access
from certeusd.control.backend import Backend, Orders
from certeusd.control.sla import Sla
from certeusd.control.types import (
    SCHEMA_VERSION,
    Configuration,
    Differences,
    Done,
    Dsn,
    Followers,
    Health,
    Problem,
    Producers,
    Reloaded,
    Status,
    Waited,
    Workers,
)
from certeusd.exits import Exit, ExitError
from certeusd.letters import PAGE_LETTERS_MAX, Dropped, Letters, NoAnswerError, Retried
from certeusd.logs import LEVELS, MODULES, Module
from certeusd.openapi import Query

WAIT_POLL_S = 0.005
WAIT_TIMEOUT_S_MAX = 86_400.0
WAITS = ("ready", "durable", "flushed")
SEQ_MAX = 2**63 - 1
BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


class ProblemError(Exception):
    """Becomes an `application/problem+json` answer."""

    def __init__(self, status: int, kind: str, title: str, detail: str) -> None:
        super().__init__(detail)
        self.problem = Problem(f"urn:certeus:problem:{kind}", title, status, detail)


class Request(NamedTuple):
    """What a handler gets."""

    backend: Backend
    query: dict[str, str]
    access: Access
    """The peer's role."""
    uid: int = -1
    """The peer's user; -1: nobody."""


Handler = Callable[[Request], Awaitable[msgspec.Struct | str | bytes]]
"""Gives the answer, its text, or its JSON."""


class Route(NamedTuple):
    """A row of the table."""

    method: str
    path: str
    access: Access
    answer: type[msgspec.Struct] | None
    """None: text."""
    query: tuple[Query, ...]
    handler: Handler
    summary: str


async def get_status(request: Request) -> Status:
    """State, reasons, positions, processes."""
    return request.backend.status()


async def get_live(request: Request) -> Health:
    """Answer, which shows that the supervisor runs; no I/O."""
    status = request.backend.status()
    return Health(SCHEMA_VERSION, True, status.state, status.since)


async def get_ready(request: Request) -> Health:
    """Tell whether the service takes events; it does so without PostgreSQL."""
    status = request.backend.status()
    if not request.backend.takes_events:
        raise ProblemError(503, "not-ready", "not ready", f"the state is {status.state}")
    if full := health.no_room(status):
        raise ProblemError(503, "not-ready", "not ready", "; ".join(full))
    return Health(SCHEMA_VERSION, True, status.state, status.since)


async def get_check(name: str, request: Request) -> Health:
    """Answer one question of `certeusd.control.health`."""
    status = request.backend.status()
    if found := health.faults(name, status):
        raise ProblemError(503, "check-failed", f"{name} is not well", "; ".join(found))
    return Health(SCHEMA_VERSION, True, status.state, status.since)


async def get_sla(request: Request) -> Sla:
    """Compare time to the verdict, time to the row and availability with `[sla]`."""
    return request.backend.sla()


async def get_workers(request: Request) -> Workers:
    """One row a worker."""
    return Workers(SCHEMA_VERSION, request.backend.workers(), request.backend.scaling())


async def get_producers(request: Request) -> Producers:
    """One row a producer's session; a worker that does not answer in a second is named."""
    return await request.backend.census.take()


async def get_dsn(request: Request) -> Dsn:
    """URL of the database, once server and schema are there."""
    told = request.query.get("show_password", "false")
    if told not in BOOLEANS:
        raise ProblemError(400, "bad-request", "bad request", "show_password is true or false")
    show = BOOLEANS[told]
    if show and request.access < Access.OWNER:
        raise ProblemError(
            403, "not-allowed", "not allowed", "only root and the daemon's user see passwords"
        )
    until = time.monotonic() + _timeout_s(request, 0.0)
    while (dsn := request.backend.dsn(show)) is None:
        if time.monotonic() >= until:
            raise ProblemError(
                503, "postgres-away", "not there yet", "server or schema are not there yet"
            )
        await asyncio.sleep(WAIT_POLL_S)
    return Dsn(SCHEMA_VERSION, dsn)


def _timeout_s(request: Request, default: float, name: str = "timeout_s") -> float:
    text = request.query.get(name)
    try:
        value = default if text is None else float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= WAIT_TIMEOUT_S_MAX:
        raise ProblemError(
            400, "bad-request", "bad request", f"{name} is 0..{WAIT_TIMEOUT_S_MAX:.0f}"
        )
    return value


async def get_wait(request: Request) -> Waited:
    """Wait until the service is ready, or until what was accepted before the call is there.

    `durable`: all that the log writer had accepted at the call is synced. `flushed`: all of it is a
    row, a dead letter or a gap.
    """
    board = request.backend.board
    started = time.monotonic()
    until = request.query.get("until", "")
    timeout_s = _timeout_s(request, 60.0)
    if until not in WAITS:
        raise ProblemError(400, "bad-request", "bad request", "until is ready, durable or flushed")
    seq: int | None = 0 if until == "ready" else None
    while True:
        if seq is None and (request.backend.takes_events or board.get("durability", "durable_seq")):
            # Before the first recovery nobody knows what the log holds.
            seq = board.get("durability", "accepted_seq")
        durable = board.get("durability", "durable_seq")
        flushed = board.get("follower", "position_seq")
        reached = {
            "ready": request.backend.takes_events,
            "durable": seq is not None and durable >= seq,
            "flushed": seq is not None and flushed >= seq,
        }
        seconds = time.monotonic() - started
        if reached[until]:
            return Waited(SCHEMA_VERSION, until, seq or 0, durable, flushed, round(seconds, 6))
        if seconds >= timeout_s:
            wanted = f": wanted seq {seq}, durable {durable}, flushed {flushed}" if seq else ""
            raise ProblemError(
                504, "timeout", "timeout", f"not {until} within {timeout_s:g} s{wanted}"
            )
        await asyncio.sleep(WAIT_POLL_S)


async def get_followers(request: Request) -> Followers:
    """One row a follower; a disk that hangs keeps only this answer waiting."""
    backend = request.backend
    durable_seq = backend.board.get("durability", "durable_seq")
    try:
        return await asyncio.to_thread(
            followers.seen, backend.log_dir, backend.followers_dir, durable_seq
        )
    except (OSError, ValueError) as error:
        raise ProblemError(503, "log-unreadable", "cannot read the log", str(error)) from error


async def post_followers_forget(request: Request) -> Done:
    """Remove the position of a follower that will not come back, durably."""
    name = request.query.get("name", "")
    try:
        await asyncio.to_thread(followers.forget, request.backend.followers_dir, name)
    except followers.RefusedError as error:
        raise ProblemError(error.status, error.kind, error.title, str(error)) from error
    return Done(SCHEMA_VERSION, f"follower {name} forgotten")


async def post_drain(request: Request) -> Done:
    """Accept no more, finish what is held, end."""
    request.backend.drain()
    return Done(SCHEMA_VERSION, "draining")


def _number(request: Request, name: str) -> int:
    text = request.query.get(name, "")
    digits = text.isascii() and text.isdecimal() and len(text) <= len(str(SEQ_MAX))
    if not digits or (number := int(text)) > SEQ_MAX:
        raise ProblemError(400, "bad-request", "bad request", f"{name} is a number")
    return number


async def post_gap_accept(request: Request) -> Done:
    """Let the flusher write off the very range at which it is stopped, and no other."""
    asked = _number(request, "first_seq"), _number(request, "last_seq")
    gap = request.backend.orders.gap()
    if gap is None:
        raise ProblemError(
            409, "no-gap", "no gap", "the flusher does not wait for the acceptance of a gap"
        )
    if gap != asked:
        raise ProblemError(
            409, "other-gap", "another gap",
            f"the flusher is stopped at {gap[0]}..{gap[1]}, not at {asked[0]}..{asked[1]}",
        )  # fmt: skip
    request.backend.orders.accept_gap(*asked)
    return Done(SCHEMA_VERSION, f"gap {asked[0]}..{asked[1]} accepted")


async def post_dead_letters_accept(request: Request) -> Done:
    """Let refused rows become dead letters, however many, up to a seq; without it, all durable."""
    durable_seq = request.backend.board.get("durability", "durable_seq")
    until_seq = _number(request, "until_seq") if "until_seq" in request.query else durable_seq
    if until_seq > durable_seq:
        raise ProblemError(
            409, "not-durable", "not durable yet",
            f"until_seq is at most the durable seq {durable_seq}",
        )  # fmt: skip
    if not request.backend.orders.accept_dead_letters(until_seq):
        raise ProblemError(503, "no-flusher", "no flusher", "the flusher is being started again")
    return Done(SCHEMA_VERSION, f"dead letters up to seq {until_seq} accepted")


async def ask_letters(
    ask: Callable[[Orders, dict[str, str], int], Awaitable[bytes]], request: Request
) -> bytes:
    """Show dead letters, deliver them again, or drop them: a page at a time."""
    try:
        return await ask(request.backend.orders, request.query, request.uid)
    except dead_letters.ParameterError as error:
        raise ProblemError(400, "bad-request", "bad request", str(error)) from error
    except NoAnswerError as error:
        raise ProblemError(503, error.code, "no answer", str(error)) from error


async def post_retry(request: Request) -> Done:
    """Let the flusher try PostgreSQL now, whatever its breaker says."""
    if not request.backend.orders.retry():
        raise ProblemError(503, "no-flusher", "no flusher", "the flusher is being started again")
    return Done(SCHEMA_VERSION, "trying now")


def _refused(error: ExitError) -> ProblemError:
    return ProblemError(503, "not-now", "not now", str(error))


async def post_worker_restart(request: Request) -> Done:
    """Have a worker hand its producers over and begin anew; answered when the next one is ready."""
    index = _number(request, "index")
    try:
        found = await request.backend.orders.restart_worker(index)
    except ExitError as error:
        raise _refused(error) from error
    if not found:
        raise ProblemError(404, "no-worker", "no such worker", f"there is no worker {index}")
    return Done(SCHEMA_VERSION, f"worker {index} began anew")


async def post_flush_pause(request: Request) -> Done:
    """Deliver nothing until it is resumed; answered when the batch under way has ended."""
    try:
        await request.backend.orders.pause_flush()
    except ExitError as error:
        raise _refused(error) from error
    return Done(SCHEMA_VERSION, "delivery is paused; events stay in the log")


async def post_flush_resume(request: Request) -> Done:
    """Deliver again."""
    if not request.backend.orders.resume_flush():
        raise ProblemError(409, "not-paused", "not paused", "the delivery was not paused")
    return Done(SCHEMA_VERSION, "delivery goes on")


async def post_log_level(request: Request) -> Done:
    """Log from a level on: all, or the processes of a module; for a while, or until the end."""
    level, module = request.query.get("level", ""), request.query.get("module")
    if level not in LEVELS:
        raise ProblemError(400, "bad-request", "bad request", f"level is {', '.join(LEVELS)}")
    modules: list[Module] = [one for one in MODULES if module in (None, one)]
    if not modules:
        raise ProblemError(400, "bad-request", "bad request", f"module is {', '.join(MODULES)}")
    for_s = _timeout_s(request, 0.0, "for_s") if "for_s" in request.query else None
    for one in modules:
        request.backend.orders.log_level(one, level, for_s)
    what = f"{', '.join(modules)}: {level}"
    return Done(SCHEMA_VERSION, what if for_s is None else f"{what}, for {for_s:g} s")


async def get_config(request: Request) -> Configuration:
    """Every key with its value and where that came from; secrets are not among them."""
    return request.backend.configuration()


async def get_config_diff(request: Request) -> Differences:
    """Compare what the daemon runs with to what files and variables say by now."""
    try:
        return await asyncio.to_thread(request.backend.differences)
    except ExitError as error:
        raise ProblemError(
            422, "bad-configuration", "the configuration cannot be used", str(error)
        ) from error


async def post_reload(request: Request) -> Reloaded:
    """Read the configuration again; answered when it holds, or when it is known that it cannot."""
    try:
        return await request.backend.reload()
    except ExitError as error:
        if error.code is Exit.CONFIGURATION:
            raise ProblemError(
                422, "bad-configuration", "the configuration cannot be used", str(error)
            ) from error
        raise _refused(error) from error


async def get_metrics(request: Request) -> str:
    """Prometheus text, straight from the board."""
    return metrics.render(request.backend)


async def get_openapi(_: Request) -> str:
    """Describe this API (OpenAPI 3.1)."""
    from certeusd.control import openapi

    return openapi.document(ROUTES)


_TIMEOUT = Query("timeout_s", {"type": "number", "minimum": 0, "maximum": int(WAIT_TIMEOUT_S_MAX)})
_SHOW_PASSWORD = Query("show_password", {"enum": list(BOOLEANS)})
_UNTIL = Query("until", {"enum": list(WAITS)}, required=True)
_FOLLOWER = Query("name", {"type": "string", "minLength": 1}, required=True)
_SEQ: dict[str, object] = {"type": "integer", "minimum": 0, "maximum": SEQ_MAX}
_FIRST = Query("first_seq", _SEQ, required=True)
_LAST = Query("last_seq", _SEQ, required=True)
_UNTIL_SEQ = Query("until_seq", _SEQ)
_INDEX = Query("index", {"type": "integer", "minimum": 0, "maximum": WORKERS_MAX - 1}, True)
_LEVEL = Query("level", {"enum": list(LEVELS)}, required=True)
_MODULE = Query("module", {"enum": list(MODULES)})
_FOR = _TIMEOUT._replace(name="for_s")
_LETTERS = (
    Query("after_seq", _SEQ),
    Query("limit", {"type": "integer", "minimum": 1, "maximum": PAGE_LETTERS_MAX}),
    Query("reason", {"type": "string", "maxLength": dead_letters.REASON_LENGTH_MAX}),
    Query("whole", {"enum": list(BOOLEANS)}),
)

# fmt: off
ROUTES: tuple[Route, ...] = (
    Route("GET", "/v1/status", Access.READER, Status, (), get_status, "state and positions"),
    Route("GET", "/v1/health/live", Access.READER, Health, (), get_live, "it runs"),
    Route("GET", "/v1/health/ready", Access.READER, Health, (), get_ready, "it takes events"),
    *(
        Route("GET", f"/v1/health/check/{name}", Access.READER, Health, (),
              partial(get_check, name), f"200 while {check.holds}")
        for name, check in health.CHECKS.items()
    ),
    Route("GET", "/v1/sla", Access.READER, Sla, (), get_sla, "whether service levels are met"),
    Route("GET", "/v1/workers", Access.READER, Workers, (), get_workers, "one row a worker"),
    Route("GET", "/v1/producers", Access.READER, Producers, (), get_producers,
          "one row a producer"),
    Route("GET", "/v1/dsn", Access.ADMIN, Dsn, (_TIMEOUT, _SHOW_PASSWORD), get_dsn,
          "URL of the database"),
    Route("GET", "/v1/wait", Access.READER, Waited, (_UNTIL, _TIMEOUT), get_wait,
          "wait until ready, durable or flushed"),
    Route("GET", "/v1/followers", Access.READER, Followers, (), get_followers,
          "one row a follower"),
    Route("POST", "/v1/followers-forget", Access.ADMIN, Done, (_FOLLOWER,), post_followers_forget,
          "let go of a follower"),
    Route("POST", "/v1/drain", Access.ADMIN, Done, (), post_drain, "finish and end"),
    Route("POST", "/v1/gap-accept", Access.ADMIN, Done, (_FIRST, _LAST), post_gap_accept,
          "write off a gap"),
    Route("POST", "/v1/dead-letters-accept", Access.ADMIN, Done, (_UNTIL_SEQ,),
          post_dead_letters_accept, "let refused rows be dead letters"),
    Route("GET", "/v1/dead-letters", Access.ADMIN, Letters, _LETTERS,
          partial(ask_letters, dead_letters.listed), "what PostgreSQL refused, and why"),
    Route("POST", "/v1/dead-letters-retry", Access.ADMIN, Retried, (_FIRST, _LAST),
          partial(ask_letters, dead_letters.retried), "deliver dead letters again"),
    Route("POST", "/v1/dead-letters-drop", Access.ADMIN, Dropped, (_FIRST, _LAST),
          partial(ask_letters, dead_letters.dropped), "name dead letters in gaps, for good"),
    Route("POST", "/v1/retry", Access.OPERATOR, Done, (), post_retry, "try PostgreSQL now"),
    Route("GET", "/v1/config", Access.READER, Configuration, (), get_config,
          "what the daemon runs with"),
    Route("GET", "/v1/config-diff", Access.READER, Differences, (), get_config_diff,
          "what a reload would find"),
    Route("POST", "/v1/worker-restart", Access.OPERATOR, Done, (_INDEX,), post_worker_restart,
          "have a worker begin anew"),
    Route("POST", "/v1/flush-pause", Access.OPERATOR, Done, (), post_flush_pause,
          "deliver nothing for now"),
    Route("POST", "/v1/flush-resume", Access.OPERATOR, Done, (), post_flush_resume,
          "deliver again"),
    Route("POST", "/v1/log-level", Access.OPERATOR, Done, (_LEVEL, _MODULE, _FOR), post_log_level,
          "log more, or less"),
    Route("POST", "/v1/reload", Access.OPERATOR, Reloaded, (), post_reload,
          "read the configuration again"),
    Route("GET", "/metrics", Access.READER, None, (), get_metrics, "Prometheus text"),
    Route("GET", "/openapi.json", Access.READER, None, (), get_openapi, "this API"),
)
# fmt: on


def check_query(route: Route, given: Iterable[str]) -> None:
    """Refuse parameters that a route does not have: a misspelt one must not be taken for none."""
    known = [one.name for one in route.query]
    for name in given:
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise ProblemError(
                400, "bad-request", "bad request", f"{route.path} has no parameter {name}: {has}"
            )


def text_type(path: str) -> str:
    """Content type of a text answer."""
    return "application/json" if path.endswith(".json") else metrics.CONTENT_TYPE


def problem_response(problem: Problem) -> web.Response:
    """Render a refusal."""
    return web.Response(
        status=problem.status,
        body=msgspec.json.encode(problem),
        content_type="application/problem+json",
    )
