"""Random requests by the official messages: both notations are the same events, and the right ones.

What they have to be is written here again, from the messages: it knows nothing of how they are
read.
"""

import base64
import json
import math
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs

from certeusd._native import DoorEncoder
from support.fake_daemon import Event, decode
from support.otlp_messages import to_dict

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
INTEGERS = st.integers(-(2**63), 2**63 - 1)
NANOSECONDS = st.just(0) | st.integers(0, 2**64 - 1)


def pairs(values: st.SearchStrategy[AnyValue]) -> st.SearchStrategy[list[KeyValue]]:
    keys = st.sampled_from(["service.name", "service.namespace", "a", ""]) | TEXT
    return st.lists(st.builds(KeyValue, key=keys, value=values), max_size=3)


def array_of(values: list[AnyValue]) -> AnyValue:
    value = AnyValue()
    value.array_value.SetInParent()
    value.array_value.values.extend(values)
    return value


def kvlist_of(values: list[KeyValue]) -> AnyValue:
    value = AnyValue()
    value.kvlist_value.SetInParent()
    value.kvlist_value.values.extend(values)
    return value


VALUES = st.recursive(
    st.just(AnyValue())
    | st.builds(AnyValue, string_value=TEXT)
    | st.builds(AnyValue, bool_value=st.booleans())
    | st.builds(AnyValue, int_value=INTEGERS)
    | st.builds(AnyValue, double_value=st.floats())
    | st.builds(AnyValue, bytes_value=st.binary(max_size=5)),
    lambda inner: (
        st.builds(array_of, st.lists(inner, max_size=3)) | st.builds(kvlist_of, pairs(inner))
    ),
    max_leaves=6,
)
RECORDS = st.builds(
    LogRecord,
    time_unix_nano=NANOSECONDS,
    observed_time_unix_nano=NANOSECONDS,
    severity_number=st.integers(0, 24),
    severity_text=TEXT,
    body=st.none() | VALUES,
    attributes=pairs(VALUES),
    dropped_attributes_count=st.integers(0, 2**32 - 1),
    flags=st.integers(0, 2**32 - 1),
    trace_id=st.sampled_from([b"", bytes(16)]) | st.binary(min_size=16, max_size=16),
    span_id=st.sampled_from([b"", bytes(8)]) | st.binary(min_size=8, max_size=8),
    event_name=TEXT,
)


@st.composite
def requests(draw: st.DrawFn) -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest()
    for _ in range(draw(st.integers(0, 2))):
        resource = ResourceLogs(schema_url=draw(TEXT))
        if draw(st.booleans()):
            resource.resource.attributes.extend(draw(pairs(VALUES)))
            resource.resource.dropped_attributes_count = draw(st.integers(0, 2**32 - 1))
        for _ in range(draw(st.integers(0, 2))):
            scope = ScopeLogs(log_records=draw(st.lists(RECORDS, max_size=3)))
            if draw(st.booleans()):
                scope.scope.name, scope.scope.version = draw(TEXT), draw(TEXT)
                scope.scope.attributes.extend(draw(pairs(VALUES)))
            resource.scope_logs.append(scope)
        request.resource_logs.append(resource)
    return request


def as_json(request: ExportLogsServiceRequest) -> bytes:
    """In OTLP's JSON, which differs from protobuf's in the ids, and in enums being numbers."""
    document = to_dict(request)
    for resource in document.get("resourceLogs", []):
        for scope in resource.get("scopeLogs", []):
            for record in scope.get("logRecords", []):
                for name in ("traceId", "spanId"):
                    if name in record:
                        record[name] = base64.b64decode(record[name]).hex()
    return json.dumps(document).encode()


def plain(value: AnyValue) -> Any:  # noqa: ANN401 - JSON of any shape
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [plain(one) for one in value.array_value.values]
    if kind == "kvlist_value":
        return members(list(value.kvlist_value.values))
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    if kind == "double_value" and not math.isfinite(value.double_value):
        number = value.double_value
        return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
    return getattr(value, kind)


def members(attributes: list[KeyValue]) -> dict[str, Any]:
    return {one.key: plain(one.value) for one in attributes}


def given_only(**values: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON of any shape
    return {name: value for name, value in values.items() if value not in (0, "", {}, b"")}


def expected(request: ExportLogsServiceRequest) -> list[dict[str, Any]]:
    """The data of each event."""
    found = list[dict[str, Any]]()
    for resource in request.resource_logs:
        resource_told = given_only(
            attributes=members(list(resource.resource.attributes)),
            dropped_attributes_count=resource.resource.dropped_attributes_count,
            schema_url=resource.schema_url,
        )
        for scope in resource.scope_logs:
            scope_told = given_only(
                name=scope.scope.name,
                version=scope.scope.version,
                attributes=members(list(scope.scope.attributes)),
                schema_url=scope.schema_url,
            )
            for record in scope.log_records:
                data = given_only(
                    attributes=members(list(record.attributes)),
                    severity_number=int(record.severity_number),
                    severity_text=record.severity_text,
                    event_name=record.event_name,
                    time_unix_nano=record.time_unix_nano,
                    observed_time_unix_nano=record.observed_time_unix_nano,
                    trace_id=record.trace_id.hex() if any(record.trace_id) else "",
                    span_id=record.span_id.hex() if any(record.span_id) else "",
                    flags=record.flags,
                    dropped_attributes_count=record.dropped_attributes_count,
                    resource=resource_told,
                    scope=scope_told,
                )
                if record.HasField("body"):
                    data["body"] = plain(record.body)
                found.append(data)
    return found


def taken(body: bytes, *, is_json: bool) -> list[Event]:
    encoder, found = DoorEncoder(256 * 1024, "door", ["*"]), list[Event]()
    for encoded in encoder.otlp_logs(body, is_json):
        assert not encoded.refused
        rest = encoded.payloads
        while rest:
            size = int.from_bytes(rest[:4], "little")
            found.append(decode(len(found) + 1, rest[4 : 4 + size]))
            rest = rest[4 + size :]
    return found


@settings(max_examples=300, deadline=None)
@given(requests())
def test_both_notations_are_the_same_events(request: ExportLogsServiceRequest) -> None:
    events = taken(request.SerializeToString(), is_json=False)
    in_json = taken(as_json(request), is_json=True)
    assert [json.loads(event.data) for event in events] == expected(request)
    assert [json.loads(event.data) for event in in_json] == expected(request)
    assert [event.attributes for event in events] == [event.attributes for event in in_json]


@settings(max_examples=300, deadline=None)
@given(requests(), st.data())
def test_any_bytes_are_a_request_or_none(
    request: ExportLogsServiceRequest, data: st.DataObject
) -> None:
    for is_json in (False, True):
        body = bytearray(as_json(request) if is_json else request.SerializeToString())
        for _ in range(data.draw(st.integers(0, 3))):
            if body:
                body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
        del body[data.draw(st.integers(0, len(body))) :]
        try:
            logs = DoorEncoder(256 * 1024, "door", ["*"]).otlp_logs(bytes(body), is_json)
        except ValueError:
            continue
        for encoded in logs:
            assert encoded.seen == encoded.count + len(encoded.refused)
