"""`/openapi.json`: OpenAPI 3.1 from the route table and the answers' Structs."""

from collections.abc import Mapping, Sequence

import msgspec

from certeusd import __version__
from certeusd.control.routes import Route
from certeusd.control.types import Problem

REF = "#/components/schemas/{name}"


def document(routes: Sequence[Route]) -> str:
    """Return the document as JSON text."""
    answers = [route.answer for route in routes if route.answer is not None]
    types: list[type[msgspec.Struct]] = list(dict.fromkeys([*answers, Problem]))
    schemas, components = msgspec.json.schema_components(types, ref_template=REF, schema_hook=_any)
    schema_of = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, object]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema_of)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {"title": "certeus control API", "version": __version__},
            "servers": [{"url": "http://localhost", "description": "control.sock"}],
            "paths": paths,
            "components": {"schemas": components},
        }
    ).decode()


def _any(kind: type) -> dict[str, object]:
    """Describe `object`: any JSON."""
    assert kind is object, f"{kind} has no schema"
    return {"description": "any JSON"}


def _operation(
    route: Route, schema_of: Mapping[type[msgspec.Struct], Mapping[str, object]]
) -> dict[str, object]:
    if route.answer is None:
        kind = "application/json" if route.path.endswith(".json") else "text/plain"
        content: dict[str, object] = {kind: {"schema": {}}}
    else:
        content = {"application/json": {"schema": schema_of[route.answer]}}
    problem = {"application/problem+json": {"schema": schema_of[Problem]}}
    return {
        "operationId": f"{route.method.lower()}{route.path.replace('/', '_')}",
        "summary": route.summary,
        "description": f"Access: {route.access.word}.",
        "parameters": [
            {"name": one.name, "in": "query", "required": one.required, "schema": one.schema}
            for one in route.query
        ],
        "responses": {
            "200": {"description": "the answer", "content": content},
            "default": {"description": "RFC 9457", "content": problem},
        },
    }
