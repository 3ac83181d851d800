"""What becomes of a fault: an answer of its own, or the end of the one that has begun.

A second status line inside a stream would be taken for events, or for the answer to the next
request: so who has got a part of an answer sees its connection end, and knows that it is cut off.
"""

import asyncio
from collections.abc import Awaitable
from typing import NoReturn

from aiohttp import web

from certeusd.api.connections import Connection
from certeusd.api.otlp_answers import told
from certeusd.api.problems import ProblemError
from certeusd.logs import Logger


async def answered(
    request: web.BaseRequest, work: Awaitable[web.StreamResponse], logger: Logger
) -> web.StreamResponse:
    """Return what `work` answers, or what went wrong with it.

    Raises:
        ConnectionError: the peer has gone, or a fault came after an answer had begun.
    """
    try:
        return await work
    except ProblemError as error:
        if request.writer.output_size > 0:
            logger.error("api_answer_cut", path=request.path, exc_info=error)
            _cut(request)
        return told(request, error)
    except (ConnectionError, asyncio.CancelledError):
        raise
    except Exception as error:  # the boundary: it answers, whatever happened inside
        logger.error("api_request_failed", path=request.path, exc_info=error)
        if request.writer.output_size > 0:
            _cut(request)
        bug = ProblemError(500, "bug", "bug", f"{type(error).__name__}: see the log")
        return told(request, bug)


def _cut(request: web.BaseRequest) -> NoReturn:
    connection = request.protocol
    assert isinstance(connection, Connection), "it made all of them"
    connection.abort()
    raise ConnectionResetError("the answer had begun")
