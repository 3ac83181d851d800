"""The table of routes: each row with what its caller must be allowed, and its handler."""

from aiohttp import web

from certeusd.api import parameters
from certeusd.api.append import post_events
from certeusd.api.otlp import KINDS, post_logs
from certeusd.api.page import get_live, get_page
from certeusd.api.peers import Caller
from certeusd.api.reading import get_events
from certeusd.api.routing import Context, Handler, Route
from certeusd.api.verdicts import Summary
from certeusd.control.sla import Sla
from certeusd.control.types import Health


def _passed_on(path: str) -> Handler:
    async def handle(context: Context, _: Caller, request: web.BaseRequest) -> web.StreamResponse:
        status, kind, body = await context.supervisor.ask(path)
        return web.Response(body=body, status=status, content_type=kind)

    return handle


async def _openapi(_: Context, __: Caller, ___: web.BaseRequest) -> web.StreamResponse:
    from certeusd.api import openapi

    return web.Response(body=openapi.document(ROUTES).encode(), content_type="application/json")


ROUTES: tuple[Route, ...] = (
    Route(
        "POST", "/v1/ledger/events", "append", post_events,
        "Append events, and answer when they are durable.",
        query=parameters.APPEND, bodies=parameters.BODIES, answer=Summary,
        statuses=(200, 202),
    ),
    Route(
        "GET", "/v1/ledger/events", "read", get_events,
        "Durable events, by number; followed with Accept: text/event-stream.",
        query=parameters.READ, answers=(parameters.NDJSON, parameters.EVENT_STREAM),
    ),
    Route(
        "POST", "/v1/logs", "append", post_logs,
        "OTLP/HTTP: append log records, and answer when they are durable.",
        bodies=KINDS, answers=KINDS, refusals=KINDS,
    ),
    Route(
        "GET", "/v1/ledger/health", "read", _passed_on("/v1/health/ready"),
        "Whether events are taken.", answer=Health,
    ),
    Route(
        "GET", "/v1/ledger/metrics", "read", _passed_on("/metrics"), "Prometheus text.",
        answers=("text/plain",),
    ),
    Route(
        "GET", "/v1/ledger/live", "read", get_live,
        "What flows now, once a second, as server-sent events.",
        query=parameters.LIVE, answers=(parameters.EVENT_STREAM,),
    ),
    Route(
        "GET", "/v1/performance/sla", "read", _passed_on("/v1/sla"),
        "Whether the service levels of [sla] are met.", answer=Sla,
    ),
    Route("GET", "/", "read", get_page, "The status page.", answers=("text/html",)),
    Route("GET", "/openapi.json", "read", _openapi, "This API (OpenAPI 3.1)."),
)  # fmt: skip
