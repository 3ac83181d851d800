"""What a route is, and what its handler gets."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec
from aiohttp import web

from certeusd.api.about import Supervisor
from certeusd.api.bodies import Bodies
from certeusd.api.peers import Caller
from certeusd.api.problems import ProblemError
from certeusd.api.producers import Producers
from certeusd.api.queries import fault, given
from certeusd.api.throttle import Throttle
from certeusd.door_process import DoorProcess
from certeusd.openapi import Query

if TYPE_CHECKING:
    from certeusd.api.live import Watching
    from certeusd.api.reading import Reading

Need = Literal["read", "append"]


class Context(NamedTuple):
    """What a handler gets besides its request."""

    process: DoorProcess
    producers: Producers
    supervisor: Supervisor
    bodies: Bodies
    throttle: Throttle
    reading: "Reading"
    watching: "Watching"


Handler = Callable[[Context, Caller, web.BaseRequest], Awaitable[web.StreamResponse]]


class Route(NamedTuple):
    """A row."""

    method: str
    path: str
    need: Need
    handler: Handler
    summary: str
    query: tuple[Query, ...] = ()
    bodies: tuple[str, ...] = ()
    """Content types of what it takes; none: it takes no body."""
    answer: type[msgspec.Struct] | None = None
    """None: what `answers` say is all that is known of it."""
    answers: tuple[str, ...] = ("application/json",)
    """Content types of what it gives."""
    refusals: tuple[str, ...] = ()
    """Content types of what it refuses with; none: it is RFC 9457's."""
    statuses: tuple[int, ...] = (200,)
    """Of what it gives."""


def check_query(route: Route, target: str) -> None:
    """Refuse values that a schema does not allow, and parameters that a route does not have.

    A misspelt one must not be taken for none.

    Raises:
        ProblemError: 400.
    """
    known = {one.name: one for one in route.query}
    try:
        pairs = given(target)
    except ValueError as error:
        raise ProblemError(400, "bad-request", "bad request", f"{error}") from error
    for name, value in pairs:
        if name not in known:
            has = f"it has {', '.join(known)}" if known else "it has none"
            what = f"{route.path} has no parameter {name}: {has}"
        else:
            what = fault(known[name], value)
        if what:
            raise ProblemError(400, "bad-request", "bad request", what)
