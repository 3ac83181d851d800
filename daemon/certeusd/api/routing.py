"""What a route is, and what its handler gets."""

from collections.abc import Awaitable, Callable
from typing import Literal, NamedTuple

from aiohttp import web

from certeusd.api.about import Supervisor
from certeusd.api.peers import Caller
from certeusd.api.producers import Producers
from certeusd.door_process import DoorProcess

Need = Literal["read", "append"]


class Context(NamedTuple):
    """What a handler gets besides its request."""

    process: DoorProcess
    producers: Producers
    supervisor: Supervisor


Handler = Callable[[Context, Caller, web.BaseRequest], Awaitable[web.StreamResponse]]


class Route(NamedTuple):
    """A row of the table."""

    method: str
    path: str
    need: Need
    handler: Handler
    summary: str
