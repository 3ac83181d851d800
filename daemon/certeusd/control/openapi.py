"""`/openapi.json` of `control.sock`."""

from collections.abc import Sequence

from certeusd import openapi
from certeusd.control.routes import Route
from certeusd.control.types import Problem


def document(routes: Sequence[Route]) -> str:
    """Return the document as JSON text."""
    return openapi.document("certeus control API", "control.sock", map(_told, routes), Problem)


def _told(route: Route) -> openapi.Operation:
    is_json = route.answer is not None or route.path.endswith(".json")
    return openapi.Operation(
        method=route.method,
        path=route.path,
        summary=route.summary,
        description=f"Access: {route.access.word}.",
        query=route.query,
        bodies=(),
        answer=route.answer,
        answers=("application/json" if is_json else "text/plain",),
    )
