"""The control API against what its own OpenAPI document says, by schemathesis."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from certeusd.control.routes import ROUTES, Route
from support.daemon import Daemon, running
from support.documented import check_answers, documented

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

AWAY = '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n'
TOLD = (400, 403, 404, 405, 409, 422, 503, 504)
DRAIN = "/v1/drain"
"""That one it would obey."""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running(AWAY) as daemon:
        yield daemon
        assert daemon.stop() == 0


@pytest.fixture(scope="module")
def api(daemon: Daemon) -> Iterator[Any]:
    path = daemon.runtime_dir / "control.sock"
    with documented(path, json.loads(daemon.text("/openapi.json"))) as schema:
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
    check_answers(api, route, mode, TOLD)


def test_the_daemon_is_as_well_as_before(daemon: Daemon) -> None:
    assert daemon.status()["state"] in ("ready", "degraded")
    assert "control_request_failed" not in daemon.log_path.read_text()
