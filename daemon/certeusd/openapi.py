"""OpenAPI 3.1 from a table of routes: what the control API and the api have in common."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from certeusd import __version__

REF = "#/components/schemas/{name}"


class Query(NamedTuple):
    """A parameter of a route; any other is refused."""

    name: str
    schema: dict[str, object]
    """JSON Schema of its value."""
    required: bool = False


class Operation(NamedTuple):
    """A row of a table, as the document tells it."""

    method: str
    path: str
    summary: str
    description: str
    query: tuple[Query, ...]
    bodies: tuple[str, ...]
    """Content types of what it takes; none: it takes no body."""
    answer: type[msgspec.Struct] | None
    answers: tuple[str, ...]
    """Content types of what it gives."""
    refusals: tuple[str, ...] = ()
    """Content types of what it refuses with; none: it is RFC 9457's."""
    statuses: tuple[int, ...] = (200,)
    """Of what it gives."""


def document(
    title: str,
    server: str,
    operations: Iterable[Operation],
    problem: type[msgspec.Struct],
    security: Mapping[str, object] | None = None,
) -> str:
    """Return the document as JSON text.

    Args:
        title: of the API.
        server: where it is.
        operations: each method of each path once.
        problem: what every refusal is (RFC 9457).
        security: schemes by name, of which a caller uses one, or none.
    """
    rows = list(operations)
    answers = [row.answer for row in rows if row.answer is not None]
    types: list[type[msgspec.Struct]] = list(dict.fromkeys([*answers, problem]))
    schemas, components = msgspec.json.schema_components(types, ref_template=REF, schema_hook=_any)
    schema_of = dict(zip(types, schemas, strict=True))
    paths: dict[str, dict[str, object]] = {}
    for row in rows:
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(
            row, schema_of, schema_of[problem]
        )
    whole: dict[str, object] = {
        "openapi": "3.1.0",
        "info": {"title": title, "version": __version__},
        "servers": [{"url": "http://localhost", "description": server}],
        "paths": paths,
        "components": {"schemas": components},
    }
    if security:
        whole["components"] = {"schemas": components, "securitySchemes": security}
        whole["security"] = [{}, *({name: list[str]()} for name in security)]
    return msgspec.json.encode(whole).decode()


def _any(kind: type) -> dict[str, object]:
    """Describe `object`: any JSON."""
    assert kind is object, f"{kind} has no schema"
    return {"description": "any JSON"}


def _operation(
    row: Operation,
    schema_of: Mapping[type[msgspec.Struct], Mapping[str, object]],
    problem: Mapping[str, object],
) -> dict[str, object]:
    schema: Mapping[str, object] = {}
    if row.answer is not None:
        schema = schema_of[row.answer]
    given = {kind: {"schema": schema} for kind in row.answers}
    answer = {"description": "the answer", "content": given}
    told: dict[str, object] = {
        "operationId": f"{row.method.lower()}{row.path.replace('/', '_')}",
        "summary": row.summary,
        "description": row.description,
        "parameters": [
            {"name": one.name, "in": "query", "required": one.required, "schema": one.schema}
            for one in row.query
        ],
        "responses": {
            **{str(status): answer for status in row.statuses},
            "default": _refusal(row, problem),
        },
    }
    if row.bodies:
        content: dict[str, object] = {kind: {"schema": dict[str, object]()} for kind in row.bodies}
        told["requestBody"] = {"required": True, "content": content}
    return told


def _refusal(row: Operation, problem: Mapping[str, object]) -> dict[str, object]:
    if not row.refusals:
        content: dict[str, object] = {"application/problem+json": {"schema": problem}}
        return {"description": "RFC 9457", "content": content}
    content = {kind: {"schema": dict[str, object]()} for kind in row.refusals}
    return {"description": "the refusal, in the form that its clients know", "content": content}
