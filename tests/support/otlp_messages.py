"""The official messages of OTLP and google.rpc, some of which come without types."""

from importlib import import_module
from typing import Any, NamedTuple

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)

_JSON: Any = import_module("google.protobuf.json_format")
_STATUS: Any = import_module("google.rpc.status_pb2")
_DETAILS: Any = import_module("google.rpc.error_details_pb2")


class Status(NamedTuple):
    """`google.rpc.Status`."""

    code: int
    message: str
    violations: list[str]
    """Of the `BadRequest` among its details; none: there is no such detail."""


def response_of(body: bytes, *, is_json: bool) -> ExportLogsServiceResponse:
    """Read it; what is no such message fails."""
    response = ExportLogsServiceResponse()
    if is_json:
        _JSON.Parse(body, response)
    else:
        response.ParseFromString(body)
    return response


def status_of(body: bytes, *, is_json: bool) -> Status:
    """Read it; what is no such message fails."""
    status: Any = _STATUS.Status()
    if is_json:
        _JSON.Parse(body, status)
    else:
        status.ParseFromString(body)
    violations = list[str]()
    for detail in status.details:
        bad: Any = _DETAILS.BadRequest()
        assert detail.Unpack(bad)
        violations += [one.description for one in bad.field_violations]
    return Status(status.code, status.message, violations)


def to_dict(request: ExportLogsServiceRequest) -> dict[str, Any]:
    """In protobuf's JSON; enums are numbers."""
    document: dict[str, Any] = _JSON.MessageToDict(request, use_integers_for_enums=True)
    return document
