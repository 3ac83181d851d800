"""What becomes of a fault before and after an answer has begun, over real sockets."""

import json
from pathlib import Path

import pytest
from aiohttp import web

from certeusd import logs
from certeusd.api.faults import answered
from certeusd.api.problems import ProblemError
from support.api_front import front, get


@pytest.mark.parametrize(
    ("fault", "status"),
    [(ProblemError(503, "busy", "busy", "later"), b"503"), (ValueError("damaged"), b"500")],
)
@pytest.mark.parametrize("begun", [False, True])
def test_a_fault_is_one_answer_or_the_end_of_one(
    tmp_path: Path, fault: Exception, status: bytes, begun: bool
) -> None:
    async def work(request: web.BaseRequest) -> web.StreamResponse:
        if begun:
            answer = web.StreamResponse()
            await answer.prepare(request)
            await answer.write(b"{}\n")
        raise fault

    logger = logs.get_logger()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return await answered(request, work(request), logger)

    with front(tmp_path, handle) as served:
        raw = served.asked(get())
    head, _, body = raw.partition(b"\r\n\r\n")
    if begun:
        assert raw.count(b"HTTP/1.1") <= 1
        assert not body.endswith(b"0\r\n\r\n"), "it looks complete"
    else:
        assert head.split()[1] == status
        assert json.loads(body)["status"] == int(status)
