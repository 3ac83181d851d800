"""The control API against what its own OpenAPI document says, by schemathesis."""

import importlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings

from certeusd.control.routes import ROUTES, Route
from support.daemon import Daemon, running
from support.forwarding import forwarded

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
