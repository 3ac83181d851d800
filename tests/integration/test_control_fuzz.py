"""The control API against what its own OpenAPI document says, by schemathesis.

Over a loopback port that passes every byte to `control.sock`: its client speaks TCP alone.
"""

import asyncio
import importlib
import json
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from certeusd.control.routes import ROUTES, Route
from support.daemon import Daemon, running

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

# Its types are not for strict checkers.
schemathesis: Any = importlib.import_module("schemathesis")
not_a_server_error: Any = schemathesis.checks.not_a_server_error

AWAY = '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n'
WAIT_S_MAX = 0.05
EXAMPLES = 25
TOLD = (400, 403, 404, 405, 409, 422, 503, 504)
"""Refusals; 503 and 504 are answers, too: not ready, not well, not in time. 500 is a bug."""
DRAIN = "/v1/drain"
"""That one it would obey."""


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
    finally:
        sink.close()


@contextmanager
def forwarded(path: Path) -> Generator[int]:
    """A loopback port whose connections end at a Unix socket."""
    loop = asyncio.new_event_loop()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(path)
        await asyncio.gather(_copy(reader, back), _copy(there, writer), return_exceptions=True)

    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:

        async def end() -> None:
            server.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running(AWAY) as daemon:
        yield daemon
        assert daemon.stop() == 0


@pytest.fixture(scope="module")
def api(daemon: Daemon) -> Iterator[Any]:
    document = json.loads(daemon.text("/openapi.json"))
    with forwarded(daemon.runtime_dir / "control.sock") as port:
        schema = schemathesis.openapi.from_dict(document)
        schema.config.update(base_url=f"http://127.0.0.1:{port}")
        yield schema


@pytest.mark.parametrize("mode", ["positive", "negative"])
@pytest.mark.parametrize(
    "route", [route for route in ROUTES if route.path != DRAIN], ids=lambda route: route.path
)
def test_every_answer_is_what_the_document_says(
    api: Any,  # noqa: ANN401 - schemathesis' own
    route: Route,
    mode: str,
) -> None:
    if mode == "negative" and not route.query:
        return  # There is nothing that could be wrong.

    @given(
        case=api[route.path][route.method].as_strategy(
            generation_mode=schemathesis.GenerationMode(mode)
        )
    )
    @settings(max_examples=EXAMPLES, deadline=None)
    def ask(case: Any) -> None:  # noqa: ANN401
        if "timeout_s" in {one.name for one in route.query}:
            # Whoever asks for an hour waits for an hour.
            waits = case.query.get("timeout_s", WAIT_S_MAX)
            if isinstance(waits, int | float) and waits >= 0:
                case.query["timeout_s"] = min(waits, WAIT_S_MAX)
        answer = case.call_and_validate(excluded_checks=[not_a_server_error])
        assert answer.status_code in (200, *TOLD), answer.text

    ask()


def test_the_daemon_is_as_well_as_before(daemon: Daemon) -> None:
    assert daemon.status()["state"] in ("ready", "degraded")
    assert "control_request_failed" not in daemon.log_path.read_text()
