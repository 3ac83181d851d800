"""What OTLP/HTTP answers: its own messages, in the notation of the request.

| | status | message |
|---|---|---|
| all taken | 200 | `ExportLogsServiceResponse`, empty |
| some taken | 200 | the same with `partial_success`: how many were rejected, and why |
| none taken, or no such request | 400 | `google.rpc.Status` with a `BadRequest` |
| not now | 429, 503, 504 | `google.rpc.Status`, and `Retry-After`: the only ones sent again |
| anything else | as everywhere | `google.rpc.Status` |

These are four small messages, so they are written here by hand: a request needs one of them.

Source: "OTLP/HTTP Response" of opentelemetry-proto 1.x; google/rpc/status.proto and
error_details.proto of googleapis.
"""

import msgspec
from aiohttp import web

from certeusd.api.problems import ProblemError

PATH = "/v1/logs"
"""What every SDK adds to its endpoint."""
PROTOBUF, JSON = "application/x-protobuf", "application/json"
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"
AGAIN_S = 1
CODES = {400: 3, 401: 16, 403: 7, 404: 5, 405: 12, 413: 8, 415: 3, 429: 8, 500: 13, 503: 14, 504: 4}
"""Of gRPC, which say the same as the status of HTTP; 2, unknown, for any other."""
UNKNOWN = 2


def answer(kind: str, rejected: int = 0, message: str = "") -> web.Response:
    """Return the answer to a request of which something was taken.

    Args:
        kind: content type of the request.
        rejected: records that were not taken, and never will be.
        message: why.
    """
    if kind == JSON:
        told = {"rejectedLogRecords": str(rejected), "errorMessage": message}
        body = msgspec.json.encode({"partialSuccess": told} if rejected else {})
    else:
        partial = _number(1, rejected) + _field(2, message.encode())
        body = _field(1, partial) if rejected else b""
    return web.Response(body=body, content_type=kind)


def told(request: web.BaseRequest, error: ProblemError) -> web.Response:
    """Return what is answered to a refused request: OTLP's own form where that is its path."""
    if request.path != PATH:
        return error.response()
    kind, status = request.content_type, error.status
    headers = dict(error.headers)
    if status == 408:
        # Not one of those that a client sends again, and it should.
        status = 503
        headers.setdefault("Retry-After", str(AGAIN_S))
    message = str(error)
    # What is no OTLP at all is told in what can be read.
    kind = PROTOBUF if kind == PROTOBUF else JSON
    body = _status(kind, CODES.get(status, UNKNOWN), message, is_bad=status == 400)
    return web.Response(body=body, status=status, content_type=kind, headers=headers)


def _status(kind: str, code: int, message: str, *, is_bad: bool) -> bytes:
    if kind == JSON:
        status: dict[str, object] = {"code": code, "message": message}
        if is_bad:
            violation = {"field": "body", "description": message}
            status["details"] = [{"@type": BAD_REQUEST, "fieldViolations": [violation]}]
        return msgspec.json.encode(status)
    status_bytes = _number(1, code) + _field(2, message.encode())
    if is_bad:
        violation_bytes = _field(1, b"body") + _field(2, message.encode())
        detail = _field(1, BAD_REQUEST.encode()) + _field(2, _field(1, violation_bytes))
        status_bytes += _field(3, detail)
    return status_bytes


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
