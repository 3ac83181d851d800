"""The table of routes: each row with what its caller must be allowed, and its handler."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Literal, NamedTuple

import msgspec
from aiohttp import web

from certeusd.api.about import Supervisor
from certeusd.api.bodies import Bodies
from certeusd.api.peers import Caller
from certeusd.api.problems import ProblemError
from certeusd.api.producers import Producers
from certeusd.api.throttle import Throttle
from certeusd.control.types import Health
from certeusd.door_process import DoorProcess
from certeusd.openapi import Query

Need = Literal["read", "append"]


class Context(NamedTuple):
    """What a handler gets besides its request."""

    process: DoorProcess
    producers: Producers
    supervisor: Supervisor
    bodies: Bodies
    throttle: Throttle


Handler = Callable[[Context, Caller, web.BaseRequest], Awaitable[web.StreamResponse]]


class Route(NamedTuple):
    """A row."""

    method: str
    path: str
    need: Need
    handler: Handler
    summary: str
    query: tuple[Query, ...] = ()
    bodies: tuple[str, ...] = ()
    """Content types of what it takes; none: it takes no body."""
    answer: type[msgspec.Struct] | None = None
    """None: what `answers` say is all that is known of it."""
    answers: tuple[str, ...] = ("application/json",)
    """Content types of what it gives."""


def _passed_on(path: str) -> Handler:
    async def handle(context: Context, _: Caller, request: web.BaseRequest) -> web.StreamResponse:
        status, kind, body = await context.supervisor.ask(path)
        return web.Response(body=body, status=status, content_type=kind)

    return handle


async def _openapi(_: Context, __: Caller, ___: web.BaseRequest) -> web.StreamResponse:
    from certeusd.api import openapi

    return web.Response(body=openapi.document(ROUTES).encode(), content_type="application/json")


def check_query(route: Route, given: Iterable[str]) -> None:
    """Refuse parameters that a route does not have: a misspelt one must not be taken for none."""
    known = [one.name for one in route.query]
    for name in given:
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            raise ProblemError(
                400, "bad-request", "bad request", f"{route.path} has no parameter {name}: {has}"
            )


ROUTES: tuple[Route, ...] = (
    Route(
        "GET", "/v1/ledger/health", "read", _passed_on("/v1/health/ready"),
        "Whether events are taken.", answer=Health,
    ),
    Route(
        "GET", "/v1/ledger/metrics", "read", _passed_on("/metrics"), "Prometheus text.",
        answers=("text/plain",),
    ),
    Route("GET", "/openapi.json", "read", _openapi, "This API (OpenAPI 3.1)."),
)  # fmt: skip
