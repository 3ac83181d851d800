"""What OTLP/HTTP answers, read by the official messages."""

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from certeusd.api.otlp_answers import JSON, PATH, PROTOBUF, answer, told
from certeusd.api.problems import ProblemError
from support.otlp_messages import Status, response_of, status_of

KINDS = pytest.mark.parametrize("kind", [PROTOBUF, JSON])


def body_of(response: web.Response) -> bytes:
    assert isinstance(response.body, bytes)
    return response.body


def refused(kind: str, error: ProblemError, path: str = PATH) -> web.Response:
    return told(make_mocked_request("POST", path, {"Content-Type": kind}), error)


@KINDS
def test_success_has_no_partial_success(kind: str) -> None:
    response = answer(kind)
    assert (response.status, response.content_type) == (200, kind)
    assert not response_of(body_of(response), is_json=kind == JSON).HasField("partial_success")


@KINDS
def test_partial_success_says_how_many_and_why(kind: str) -> None:
    response = answer(kind, 300, "é: too-large")
    assert (response.status, response.content_type) == (200, kind)
    partial = response_of(body_of(response), is_json=kind == JSON).partial_success
    assert (partial.rejected_log_records, partial.error_message) == (300, "é: too-large")


@KINDS
def test_a_refusal_is_a_status(kind: str) -> None:
    error = ProblemError(503, "x", "y", "why " * 100, headers={"Retry-After": "7"})
    response = refused(kind, error)
    assert (response.status, response.content_type) == (503, kind)
    assert response.headers["Retry-After"] == "7"
    status = status_of(body_of(response), is_json=kind == JSON)
    assert status == Status(14, "why " * 100, [])


@KINDS
def test_a_bad_body_is_told_with_its_details(kind: str) -> None:
    response = refused(kind, ProblemError(400, "x", "y", "why"))
    assert status_of(body_of(response), is_json=kind == JSON) == Status(3, "why", ["why"])


@KINDS
def test_a_body_that_stood_still_is_sent_again(kind: str) -> None:
    response = refused(kind, ProblemError(408, "x", "y", "why", headers={"Connection": "close"}))
    assert response.status == 503
    assert (response.headers["Retry-After"], response.headers["Connection"]) == ("1", "close")


def test_what_is_no_otlp_is_told_in_json() -> None:
    response = refused("text/plain", ProblemError(415, "x", "y", "why"))
    assert response.content_type == JSON
    assert status_of(body_of(response), is_json=True).message == "why"


def test_other_paths_have_their_own_form() -> None:
    response = refused(PROTOBUF, ProblemError(400, "x", "y", "why"), "/v1/ledger/events")
    assert response.content_type == "application/problem+json"
