"""The api against what its OpenAPI document says, by schemathesis; and bytes that are no HTTP."""

import contextlib
import importlib
import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certeusd.api.routes import ROUTES
from certeusd.api.routing import Route
from support.api_asking import ask
from support.daemon import Daemon, running
from support.documented import check_answers, documented

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

checks: Any = importlib.import_module("schemathesis.specs.openapi.checks")

AWAY = '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n'
GARBAGE_EXAMPLES = 300
TOLD = (400, 403, 404, 405, 408, 409, 413, 415, 422, 429, 503, 504)
GARBAGE_TIMEOUT_S = 0.02


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running(AWAY, doors=["api"]) as daemon:
        yield daemon
        assert daemon.stop() == 0


@pytest.fixture(scope="module")
def api(daemon: Daemon) -> Iterator[Any]:
    path = daemon.runtime_dir / "api.sock"
    with documented(path, ask(path, "/openapi.json").json) as schema:
        yield schema


def _few_moments(case: Any) -> None:  # noqa: ANN401 - schemathesis' own
    """Whoever asks for all moments gets one a second."""
    moments = case.query.get("limit", 1)
    case.query["limit"] = min(moments, 1) if isinstance(moments, int) else moments


@pytest.mark.parametrize("mode", ["positive", "negative"])
@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method}-{route.path}")
def test_every_answer_is_what_the_document_says(
    api: Any,  # noqa: ANN401 - schemathesis' own
    route: Route,
    mode: str,
) -> None:
    change = _few_moments if route.path == "/v1/ledger/live" else None
    # What a body of each type must be, other documents say than this one.
    unsaid = [checks.positive_data_acceptance] if route.bodies else []
    check_answers(api, route, mode, TOLD, change=change, unsaid=unsaid)


_WORD = st.binary(max_size=40)
_PATHS = st.one_of(
    st.sampled_from([route.path.encode() for route in ROUTES] + [b"*", b"/", b"http://[::1"]), _WORD
)
_HEADER = st.one_of(
    st.tuples(
        st.sampled_from(
            [b"Content-Length", b"Transfer-Encoding", b"Content-Encoding", b"Connection", b"Expect",
             b"Upgrade", b"Host", b"Authorization", b"Content-Type", b"Accept"]
        ),
        st.one_of(
            st.sampled_from(
                [b"0", b"-1", b"99999999999999999999", b"chunked", b"gzip, chunked", b"gzip",
                 b"upgrade", b"websocket", b"100-continue", b"close", b"keep-alive", b"\xff"]
            ),
            _WORD,
        ),
    ).map(b": ".join),
    _WORD,
)  # fmt: skip


@st.composite
def _requests(draw: st.DrawFn) -> bytes:
    """Something between a request and noise."""
    if draw(st.booleans()):
        return draw(st.binary(max_size=300))
    method = draw(st.sampled_from([b"GET", b"POST", b"HEAD", b"PRI", b"CONNECT", b"\x00"]))
    target = draw(_PATHS) + draw(st.sampled_from([b"", b"?a=%ff", b"?%zz&&=", b"?" + b"a" * 9000]))
    version = draw(st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b""]))
    headers = draw(st.lists(_HEADER, max_size=6))
    lines = [method + b" " + target + b" " + version, b"Host: localhost", *headers]
    return b"\r\n".join([*lines, b"", b""]) + draw(st.binary(max_size=100))


def test_bytes_that_are_no_request_harm_nobody(daemon: Daemon) -> None:
    path = daemon.runtime_dir / "api.sock"
    pids = daemon.pids("api")

    @given(requests=st.lists(_requests(), min_size=1, max_size=4))
    @settings(max_examples=GARBAGE_EXAMPLES, deadline=None)
    def send(requests: list[bytes]) -> None:
        with socket.socket(socket.AF_UNIX) as end, contextlib.suppress(OSError):
            end.settimeout(GARBAGE_TIMEOUT_S)
            end.connect(str(path))
            for request in requests:
                end.sendall(request)
                end.recv(65536)
        answer = ask(path, "/openapi.json")
        assert answer.status == 200

    send()
    assert daemon.pids("api") == pids


def test_the_daemon_is_as_well_as_before(daemon: Daemon) -> None:
    assert daemon.status()["state"] in ("ready", "degraded")
    log = daemon.log_path.read_text()
    assert "Traceback" not in log
    assert "api_request_failed" not in log
    assert all(json.loads(line) for line in log.splitlines())
