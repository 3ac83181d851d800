"""Sending what goes on and on, to a client that may not read."""

import asyncio

from aiohttp import web

QUIET_S = 15.0
"""After which a comment shows that the stream is alive; proxies cut silent ones."""
WRITE_TIMEOUT_S = 30.0


async def write(answer: web.StreamResponse, part: bytes) -> None:
    """Send a part; a client that takes nothing of it for long is given up.

    Raises:
        ConnectionResetError: it has gone, or reads nothing.
    """
    try:
        async with asyncio.timeout(WRITE_TIMEOUT_S):
            await answer.write(part)
    except TimeoutError as error:
        raise ConnectionResetError("the client reads nothing") from error
