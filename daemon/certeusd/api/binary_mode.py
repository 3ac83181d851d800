"""CloudEvents' binary mode: attributes in headers `ce-*`, and whether a request is of it.

What a header says is taken as it is or refused, never changed: percent-encoded text is UTF-8, only
what is quoted as a whole loses its quotes, and each name comes once.
"""

import re
from urllib.parse import unquote

import msgspec
from aiohttp import web

from certeusd._native import DoorEncoder, Encoded
from certeusd.api import parameters
from certeusd.api.problems import ProblemError

CE = "ce-"
STRUCTURED = "application/cloudevents"
"""How content types begin that have all attributes in the body, whatever headers say."""
UNTOLD = "application/x-www-form-urlencoded"
_EXTENSION = re.compile(r"[a-z0-9]{1,20}")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")


def is_binary(request: web.BaseRequest) -> bool:
    """Whether attributes are in headers; a structured event has its own."""
    if request.content_type.startswith(STRUCTURED):
        return False
    return any(name.lower().startswith(CE) for name in request.headers)


def event(encoder: DoorEncoder, request: web.BaseRequest, body: bytes) -> Encoded:
    """Make one event of headers and body.

    Raises:
        ProblemError: 400, an attribute is missing, comes twice, is no UTF-8 or has no proper name.
    """
    given = dict[str, str]()
    for name, value in request.headers.items():
        if name.lower().startswith(CE):
            attribute = name.lower().removeprefix(CE)
            if attribute in given:
                raise _bad(f"ce-{attribute} comes twice")
            given[attribute] = _value(f"ce-{attribute}", value)
    if given.pop("specversion", "") != "1.0":
        raise _bad("ce-specversion is 1.0")
    for name in ("id", "source", "type"):
        if not given.get(name):
            raise _bad(f"ce-{name} is missing")
    known = {name: given.pop(name) for name in parameters.ATTRIBUTES if name in given}
    if unnamed := [name for name in given if not _EXTENSION.fullmatch(name)]:
        raise _bad(f"ce-{unnamed[0]} is no name of an extension: 1 to 20 of a-z and 0-9")
    extensions = msgspec.json.encode(given).decode() if given else None
    return encoder.event(
        body or None, None, **known, content_type=type_of(request), extensions=extensions
    )


def type_of(request: web.BaseRequest) -> str | None:
    """Return the content type of data; curl's own, when it is told none, says nothing of it."""
    kind = request.headers.get("Content-Type")
    return None if not kind or request.content_type == UNTOLD else kind


def _value(name: str, text: str) -> str:
    """Return what a header says (CloudEvents, HTTP binding, 3.1.3.2)."""
    if quoted := _QUOTED.fullmatch(text):
        text = _ESCAPED.sub(r"\1", quoted[1])
    try:
        return unquote(text.encode().decode(), errors="strict")
    except UnicodeError as error:
        raise _bad(f"{name} is no UTF-8, percent-encoded where it is not ASCII") from error


def _bad(what: str) -> ProblemError:
    return ProblemError(400, "bad-request", "bad request", what)
