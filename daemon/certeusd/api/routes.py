"""The table of routes: each row with what its caller must be allowed, and its handler."""

from aiohttp import web

from certeusd.api.append import post_events
from certeusd.api.peers import Caller
from certeusd.api.routing import Context, Handler, Route


def _passed_on(path: str) -> Handler:
    async def handle(context: Context, _: Caller, request: web.BaseRequest) -> web.StreamResponse:
        status, kind, body = await context.supervisor.ask(path)
        return web.Response(body=body, status=status, content_type=kind)

    return handle


ROUTES = (
    Route(
        "POST", "/v1/ledger/events", "append", post_events,
        "Append events, and answer when they are durable.",
    ),
    Route(
        "GET", "/v1/ledger/health", "read", _passed_on("/v1/health/ready"),
        "Whether events are taken.",
    ),
    Route("GET", "/v1/ledger/metrics", "read", _passed_on("/metrics"), "Prometheus text."),
)  # fmt: skip
