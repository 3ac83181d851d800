"""Markdown of the ledger API: its part of docs/http.md."""

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import cast

from certeusd import api
from certeusd.api.routes import ROUTES
from certeusd.api.routing import Route
from reference_docs import cell, filled


def section() -> Iterator[str]:
    """Make the section."""
    yield from ("## The ledger API", "")
    yield from filled(
        "HTTP on `api.sock`, and on the port of `api.listen` with its key: a `Producer` and a"
        " reader for programs without the library. The same in OpenAPI 3.1 is at `/openapi.json`"
        " there; limits and the port: [api-limits.md](api-limits.md). A parameter that a route does"
        " not have is refused."
    )
    yield from ("```", "curl --unix-socket /run/certeus/api.sock http://certeus/v1/ledger/health")
    yield from ("```", "", "| route | who may | parameters | body | answer | what it does |")
    yield "|---|---|---|---|---|---|"
    yield from map(_row, ROUTES)
    yield from ("", "| route | parameter | value |", "|---|---|---|")
    for route in ROUTES:
        for one in route.query:
            need = "required" if one.required else "may be left out"
            yield f"| {_name(route)} | `{one.name}` | {cell(value(one.schema))}; {need} |"
    yield ""
    yield from filled(
        "What it refuses, as above; `not-ready` is passed on from `control.sock`. An answer may"
        " have more keys than [Problem](#problem): those of its route's answer, for what was taken."
    )
    yield from ("| word | status |", "|---|---|")
    for word, statuses in sorted(_problems().items()):
        yield f"| `{word}` | {', '.join(map(str, sorted(statuses)))} |"
    yield ""


def value(schema: dict[str, object]) -> str:
    """Tell what a parameter may be."""
    if "enum" in schema:
        return ", ".join(f"`{word}`" for word in cast(list[str], schema["enum"]))
    if "maximum" in schema:
        least = schema.get("minimum", schema.get("exclusiveMinimum"))
        return f"{schema['type']}, {least}..{schema['maximum']}"
    return str(schema["type"])


def _name(route: Route) -> str:
    return f"`{route.method} {route.path}`"


def _row(route: Route) -> str:
    asked = ", ".join(f"`{one.name}`{'' if one.required else '?'}" for one in route.query)
    bodies = ", ".join(f"`{kind}`" for kind in route.bodies)
    answer = ", ".join(f"`{kind}`" for kind in route.answers)
    if route.answer is not None:
        answer = f"[{route.answer.__name__}](#{route.answer.__name__.lower()})"
    cells = (_name(route), route.need, asked, bodies, answer, cell(route.summary))
    return f"| {' | '.join(cells)} |"


def _problems() -> dict[str, set[int]]:
    """Find each refusal that stands in a module of the api."""
    found: dict[str, set[int]] = {}
    for module in pkgutil.iter_modules(api.__path__, "certeusd.api."):
        if module.name.endswith("__main__"):
            continue
        for node in ast.walk(ast.parse(inspect.getsource(importlib.import_module(module.name)))):
            match node:
                case ast.Call(
                    func=ast.Name(id="ProblemError"),
                    args=[ast.Constant(value=int(status)), ast.Constant(value=str(word)), *_],
                ):
                    found.setdefault(word, set()).add(status)
                case _:
                    pass
    return found
