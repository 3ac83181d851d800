"""Bodies of requests, as they come: by blocks, or whole within a bound."""

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from certeusd.api.problems import ProblemError


async def blocks(request: web.BaseRequest, timeout_s: float) -> AsyncIterator[bytes]:
    """Yield the body as it arrives, never more than the connection holds.

    Raises:
        ProblemError: 408, nothing came for so long.
    """
    while True:
        try:
            async with asyncio.timeout(timeout_s):
                block = await request.content.readany()
        except TimeoutError as error:
            raise ProblemError(
                408, "body-timeout", "body timeout",
                f"no byte of the body came for {timeout_s:g} s; send it again",
            ) from error  # fmt: skip
        if not block:
            return
        yield block


async def whole(request: web.BaseRequest, bytes_max: int, timeout_s: float) -> bytes:
    """Return the body.

    Raises:
        ProblemError: 413, it is longer than allowed; 408.
    """
    body = bytearray()
    async for block in blocks(request, timeout_s):
        body += block
        if len(body) > bytes_max:
            raise ProblemError(
                413, "body-too-large", "body too large",
                f"a body that is no NDJSON has at most {bytes_max} bytes (api.body_bytes_max);"
                " send NDJSON, which may be of any length",
            )  # fmt: skip
    return bytes(body)
