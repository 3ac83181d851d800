"""`/openapi.json` of `api.sock` and of its port."""

from collections.abc import Sequence

from certeusd import openapi
from certeusd.api.peers import KEY_HEADER
from certeusd.api.routing import Route
from certeusd.control.types import Problem

SECURITY = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "key": {"type": "apiKey", "in": "header", "name": KEY_HEADER},
}
"""Of the port; on the socket it is the kernel that says who asks."""


def document(routes: Sequence[Route]) -> str:
    """Return the document as JSON text."""
    where = "api.sock, and the port of api.listen"
    return openapi.document("certeus ledger API", where, map(_told, routes), Problem, SECURITY)


def _told(route: Route) -> openapi.Operation:
    return openapi.Operation(
        method=route.method,
        path=route.path,
        summary=route.summary,
        description=f"For who may {route.need}.",
        query=route.query,
        bodies=route.bodies,
        answer=route.answer,
        answers=route.answers,
        refusals=route.refusals,
        statuses=route.statuses,
    )
