"""Markdown of the control API, and of the ledger's: routes, parameters, answers and problems."""

import ast
import inspect
import re
import types
from collections.abc import Iterable, Iterator
from functools import partial
from typing import get_args, get_origin

import msgspec

import reference_ledger
from certeusd.api.routes import ROUTES as LEDGER
from certeusd.control import followers, routes, server
from certeusd.control.routes import ROUTES, Route
from certeusd.control.types import Problem
from certeusd.flush import telling
from certeusd.supervisor import questions
from reference_docs import MADE, cell, filled
from reference_ledger import value
from reference_texts import attribute_texts

JSON_NAMES: dict[type, str] = {
    int: "integer", str: "string", float: "number", bool: "boolean",
    object: "any", msgspec.Raw: "any",
}  # fmt: skip
UNANSWERED = 503
EVERYWHERE = {"schema_version": "Of this answer's form."}


def document() -> str:
    """Make docs/http.md."""
    lines = ["# The control API", "", MADE, ""]
    lines += filled(
        "HTTP and JSON on `control.sock`: the same in OpenAPI 3.1 is at `/openapi.json`. Who has"
        ' which role: "The control API" in [operating.md](operating.md). A role may all that the'
        " roles before it may: reader, operator, admin, owner. Keys are added to an answer, none is"
        " taken away, as long as `schema_version` stays; times are RFC 3339 in UTC. A parameter"
        " that a route does not have is refused. The command does the same: [cli.md](cli.md)."
    )
    lines += ["```", "curl --unix-socket /run/certeus/control.sock http://certeus/v1/status"]
    lines += ["curl --unix-socket /run/certeus/control.sock -X POST"
              " 'http://certeus/v1/log-level?level=debug&for_s=600'", "```", ""]  # fmt: skip
    lines += [
        "| route | least role | parameters | answer | what it does |",
        "|---|---|---|---|---|",
    ]
    lines += map(_row, ROUTES)
    lines += ["", *_parameters(), *_problems(), *reference_ledger.section(), *_answers()]
    return "\n".join(lines).rstrip() + "\n"


def _row(route: Route) -> str:
    answer = "text"
    if route.answer is not None:
        answer = f"[{route.answer.__name__}](#{route.answer.__name__.lower()})"
    asked = ", ".join(f"`{one.name}`{'' if one.required else '?'}" for one in route.query)
    cells = (f"`{route.method} {route.path}`", route.access.word, asked, answer)
    return f"| {' | '.join(cells)} | {cell(_text(route))} |"


def _text(route: Route) -> str:
    """Return what its handler says; one that several routes share says nothing of any."""
    if isinstance(route.handler, partial):
        return route.summary
    return " ".join((inspect.getdoc(route.handler) or route.summary).split())


def _parameters() -> Iterator[str]:
    yield from ("## Parameters", "", "| route | parameter | value |", "|---|---|---|")
    for route in ROUTES:
        for one in route.query:
            need = "required" if one.required else "may be left out"
            yield (
                f"| `{route.method} {route.path}` | `{one.name}` |"
                f" {cell(value(one.schema))}; {need} |"
            )
    yield ""


def _problems() -> Iterator[str]:
    yield from ("## Problems", "")
    yield from filled(
        "What is refused is answered with `application/problem+json` (RFC 9457):"
        " [Problem](#problem). Its `type` is stable: `urn:certeus:problem:` and one of these words;"
        " `detail` is for humans. Words may be added. `bad-request` comes with other statuses, too,"
        " where HTTP has one: 404 for a path that is none, 405 for a method."
    )
    yield from ("| word | status |", "|---|---|")
    found: dict[str, set[int]] = {"bug": {500}}
    for module in (routes, server, followers, questions):
        for word, status in _raised(module):
            found.setdefault(word, set()).add(status)
    for word in telling.CODES:  # What the flusher says instead of an answer about dead letters.
        found.setdefault(word, set()).add(UNANSWERED)
    for word in sorted(found):
        yield f"| `{word}` | {', '.join(map(str, sorted(found[word])))} |"
    yield ""


def _raised(module: types.ModuleType) -> Iterator[tuple[str, int]]:
    """Find each refusal that stands in a module: `ProblemError(status, "word", ...)` and others."""
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        match node:
            case ast.Call(
                func=ast.Name(id="ProblemError" | "RefusedError"),
                args=[ast.Constant(value=int(status)), ast.Constant(value=str(word)), *_],
            ):
                yield word, status
            case ast.Call(
                func=ast.Name(id="NoAnswerError"), args=[ast.Constant(value=str(word)), _]
            ):
                yield word, UNANSWERED
            case _:
                pass


def _answers() -> Iterator[str]:
    yield from ("## Answers", "")
    seen: dict[type[msgspec.Struct], None] = {}
    control = [route.answer for route in ROUTES if route.answer is not None]
    ledger = [route.answer for route in LEDGER if route.answer is not None]
    for one in (*control, *ledger, Problem):
        _collect(one, seen)
    for one in sorted(seen, key=lambda kind: kind.__name__):
        yield from (f"### {one.__name__}", "", *filled(inspect.getdoc(one) or ""))
        texts = attribute_texts(one)
        yield from ("| key | type | what it is |", "|---|---|---|")
        for field in msgspec.structs.fields(one):
            text = texts.get(field.name) or EVERYWHERE.get(field.name, "")
            what = cell(text.replace("None", "null"))
            yield f"| `{field.encode_name}` | {cell(_type(field.type))} | {what} |"
        yield ""


def _collect(kind: object, seen: dict[type[msgspec.Struct], None]) -> None:
    """Note a Struct and those that it holds."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if kind not in seen:
            seen[kind] = None
            for field in msgspec.structs.fields(kind):
                _collect(field.type, seen)
        return
    for inner in get_args(kind):
        _collect(inner, seen)


def _type(kind: object) -> str:
    if isinstance(kind, types.UnionType):
        return _either(map(_type, get_args(kind)))
    if get_origin(kind) is list:
        return f"list of {_type(get_args(kind)[0])}"
    if get_origin(kind) is dict:
        return f"object of {_type(get_args(kind)[1])}"
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return f"[{kind.__name__}](#{kind.__name__.lower()})"
    if kind is types.NoneType:
        return "null"
    assert isinstance(kind, type), f"{kind} is a type"
    return JSON_NAMES[kind]


def _either(words: Iterable[str]) -> str:
    return re.sub(r"^null or (.*)$", r"\1 or null", " or ".join(words))
