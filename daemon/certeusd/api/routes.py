"""The table of routes: each row with what its caller must be allowed, and its handler."""

from collections.abc import Awaitable, Callable
from typing import Literal, NamedTuple

from aiohttp import web

from certeusd.api.about import Supervisor
from certeusd.api.peers import Caller
from certeusd.api.producers import Producers
from certeusd.door_process import DoorProcess

Need = Literal["read", "append"]


class Context(NamedTuple):
    """What a handler gets besides its request."""

    process: DoorProcess
    producers: Producers
    supervisor: Supervisor


Handler = Callable[[Context, Caller, web.BaseRequest], Awaitable[web.StreamResponse]]


class Route(NamedTuple):
    """A row."""

    method: str
    path: str
    need: Need
    handler: Handler
    summary: str


def _passed_on(path: str) -> Handler:
    async def handle(context: Context, _: Caller, request: web.BaseRequest) -> web.StreamResponse:
        status, kind, body = await context.supervisor.ask(path)
        return web.Response(body=body, status=status, content_type=kind)

    return handle


ROUTES = (
    Route(
        "GET", "/v1/ledger/health", "read", _passed_on("/v1/health/ready"),
        "Whether events are taken.",
    ),
    Route("GET", "/v1/ledger/metrics", "read", _passed_on("/metrics"), "Prometheus text."),
)  # fmt: skip
