"""Sending what goes on and on, to a client that may not read: a place of it, and its time."""

import asyncio
import contextlib
from collections.abc import Generator

from aiohttp import web

from certeusd.api.peers import Caller
from certeusd.api.problems import ProblemError
from certeusd.api.slots import Slots

QUIET_S = 15.0
"""After which a comment shows that the stream is alive; proxies cut silent ones."""
WRITE_TIMEOUT_S = 30.0
PIECE_BYTES = 64 * 1024
"""So that who takes something of a large part is not given up as one that takes nothing."""


@contextlib.contextmanager
def place(slots: Slots, caller: Caller) -> Generator[None]:
    """Have one of the places for as long as the block lasts.

    Raises:
        ProblemError: 503, there is none.
    """
    if not slots.take(caller.name):
        raise ProblemError(
            503, "too-many-subscribers", "too many subscribers",
            f"{caller.name} may have {slots.per_peer} of these streams, all together"
            f" {slots.most}; end one of them",
            headers={"Retry-After": "1"},
        )  # fmt: skip
    try:
        yield
    finally:
        slots.give_back(caller.name)


async def write(answer: web.StreamResponse, part: bytes) -> None:
    """Send a part; a client that takes nothing of it for long is given up.

    Raises:
        ConnectionResetError: it has gone, or reads nothing.
    """
    try:
        for at in range(0, len(part), PIECE_BYTES):
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await answer.write(part[at : at + PIECE_BYTES])
    except TimeoutError as error:
        raise ConnectionResetError("the client reads nothing") from error
