"""OTLP/HTTP logs into a real certeusd, by the official SDK and by curl."""

import contextlib
import gzip
import http.client
import json
import logging
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.util.types import AnyValue

from support.api_asking import Answer
from support.api_client import EVENTS, Api, curl
from support.daemon import Daemon, running
from support.otlp_messages import response_of, status_of
from support.ports import free_port, refuses
from support.waiting import wait_until

pytestmark = pytest.mark.integration

KEY = "a-key-of-this-port"
LOGS, PROTOBUF, JSON = "/v1/logs", "application/x-protobuf", "application/json"
URL = f"http://localhost{LOGS}"
RECORDS = 2000


class Served(NamedTuple):
    """A certeusd that serves a port, too."""

    daemon: Daemon
    port: int

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}{LOGS}"

    @property
    def api(self) -> Api:
        return Api(self.daemon.runtime_dir / "api.sock")

    def post(self, body: bytes, kind: str = PROTOBUF, **headers: str) -> Answer:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.api.ask("POST", LOGS, body, {"Content-Type": kind, **named})

    def events(self, source: str) -> list[dict[str, Any]]:
        answer = self.api.get(f"{EVENTS}?source={source}&limit=100000")
        assert answer.status == 200, answer.body
        return answer.lines


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    key_file, port = tmp_path_factory.mktemp("key") / "key", free_port()
    key_file.write_text(KEY)
    key_file.chmod(0o600)
    config = (
        '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n'
        f'[api]\nlisten = "127.0.0.1:{port}"\nkey_file = "{key_file}"\n'
        'sources = ["shop/*", "svc-*", "otel"]\n'
    )
    with running(config, doors=["api"]) as daemon:
        wait_until("port", lambda: not refuses(port))
        yield Served(daemon, port)
        assert daemon.stop() == 0


def request(source: str, bodies: Sequence[str]) -> bytes:
    """A request of one service with these texts as bodies."""
    message = ExportLogsServiceRequest()
    resource = message.resource_logs.add()
    attribute = KeyValue(key="service.name")
    attribute.value.string_value = source
    resource.resource.attributes.append(attribute)
    scope = resource.scope_logs.add()
    for body in bodies:
        scope.log_records.add().body.string_value = body
    serialized: bytes = message.SerializeToString()
    return serialized


def exporter(
    monkeypatch: pytest.MonkeyPatch, served: Served, compression: Compression
) -> OTLPLogExporter:
    """As the documentation has it: by what any SDK reads of its environment."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", served.endpoint)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"authorization=Bearer {KEY}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", compression.value)
    return OTLPLogExporter()


# --- the official SDK ------------------------------------------------------------------------


@pytest.mark.parametrize("compression", [Compression.Gzip, Compression.NoCompression])
def test_what_an_application_logs_is_in_the_ledger(
    served: Served, monkeypatch: pytest.MonkeyPatch, compression: Compression
) -> None:
    name = f"checkout-{compression.value}"
    resource = Resource({"service.name": name, "service.namespace": "shop", "zone": 7})
    provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
    processor = BatchLogRecordProcessor(
        exporter(monkeypatch, served, compression), max_queue_size=2 * RECORDS
    )
    provider.add_log_record_processor(processor)
    with pytest.warns(DeprecationWarning, match="LoggingHandler"):
        handler = LoggingHandler(logger_provider=provider)
    logger = logging.Logger("till")
    logger.addHandler(handler)
    with TracerProvider(shutdown_on_exit=False).get_tracer("t").start_as_current_span("s") as span:
        logger.warning("paid %d", 1500, extra={"order": 17, "tags": ["a", "b"]})
        context = span.get_span_context()
    for at in range(RECORDS):
        logger.info("record %d", at)
    assert provider.force_flush(30_000)
    provider.shutdown()

    found = served.events(f"shop/{name}")
    first, rest = found[0], found[1:]
    ids = f"{context.trace_id:032x}-{context.span_id:016x}"
    assert (first["type"], first["source"]) == ("otel.log", f"shop/{name}")
    assert first["traceparent"] == f"00-{ids}-{context.trace_flags:02x}"
    assert (first["severitynumber"], first["severitytext"]) == (13, "WARN")
    data = first["data"]
    assert (data["body"], data["attributes"]["order"]) == ("paid 1500", 17)
    assert data["attributes"]["tags"] == ["a", "b"]
    assert f"{data['trace_id']}-{data['span_id']}" == ids
    assert data["scope"]["name"] == "till"
    assert data["resource"]["attributes"].items() >= dict(resource.attributes).items()
    nanoseconds = data["time_unix_nano"]
    assert first["time"].endswith(f".{nanoseconds % 10**9:09}Z")
    assert [row["data"]["body"] for row in rest] == [f"record {at}" for at in range(RECORDS)]
    assert [row["seq"] for row in rest] == list(range(rest[0]["seq"], rest[0]["seq"] + RECORDS))


def test_an_event_of_the_sdk_has_its_own_type(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    resource = Resource({"service.name": "svc-events"})
    provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
    processor = BatchLogRecordProcessor(exporter(monkeypatch, served, Compression.Gzip))
    provider.add_log_record_processor(processor)
    body: Mapping[str, AnyValue] = {
        "size": 2**62,
        "raw": b"\x00\xff",
        "nested": {"a": [1.5, None, True]},
    }
    record = LogRecord(
        timestamp=1_544_712_660_123_456_789, severity_number=SeverityNumber.INFO,
        body=body, event_name="device.started",
    )  # fmt: skip
    provider.get_logger("lib", "1.2").emit(record)
    provider.shutdown()
    (event,) = served.events("svc-events")
    assert (event["type"], event["time"]) == ("device.started", "2018-12-13T14:51:00.123456789Z")
    data = event["data"]
    assert data["body"] == {"size": 2**62, "raw": "AP8=", "nested": {"a": [1.5, None, True]}}
    assert data["scope"] == {"name": "lib", "version": "1.2"}


def test_without_the_key_nothing_is_taken(served: Served) -> None:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", served.port)) as connection:
        connection.request("POST", LOGS, request("svc-keyless", ["a"]), {"Content-Type": PROTOBUF})
        answer = connection.getresponse()
        body = answer.read()
    assert (answer.status, answer.headers["Content-Type"]) == (401, PROTOBUF)
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert status_of(body, is_json=False).code == 16
    assert served.events("svc-keyless") == []


# --- what is answered ------------------------------------------------------------------------


def test_json_by_curl(served: Served, tmp_path: Path) -> None:
    attribute = {"key": "service.name", "value": {"stringValue": "svc-curl"}}
    record = {"timeUnixNano": "1544712660300000000", "body": {"stringValue": "hello"}}
    document = {
        "resourceLogs": [
            {"resource": {"attributes": [attribute]}, "scopeLogs": [{"logRecords": [record]}]}
        ]
    }
    body = tmp_path / "body.json"
    body.write_text(json.dumps(document))
    socket = served.daemon.runtime_dir / "api.sock"
    kind = f"Content-Type: {JSON}"
    assert curl(socket, "-H", kind, "--data-binary", f"@{body}", URL) == {}
    (event,) = served.events("svc-curl")
    assert (event["time"], event["data"]["body"]) == ("2018-12-13T14:51:00.300000000Z", "hello")


@pytest.mark.parametrize(("body", "kind"), [(b"", PROTOBUF), (b"{}", JSON), (b"\n\0", PROTOBUF)])
def test_an_empty_request_is_taken(served: Served, body: bytes, kind: str) -> None:
    answer = served.post(body, kind)
    assert (answer.status, answer.headers["Content-Type"]) == (200, kind)
    assert not response_of(answer.body, is_json=kind == JSON).HasField("partial_success")


def test_what_is_rejected_is_told_and_the_rest_is_taken(served: Served) -> None:
    good, foreign = request("svc-partial", ["a", "b\0", "c"]), request("elsewhere", ["d", "e"])
    answer = served.post(gzip.compress(good + foreign), Content_Encoding="gzip")
    assert (answer.status, answer.headers["Content-Type"]) == (200, PROTOBUF)
    partial = response_of(answer.body, is_json=False).partial_success
    assert partial.rejected_log_records == 3
    assert partial.error_message == (
        "3 of 5 log records were rejected: nul-character (the first: record 1),"
        " source-not-allowed (the first: record 3)"
    )
    assert [row["data"]["body"] for row in served.events("svc-partial")] == ["a", "c"]


def test_where_nothing_is_taken_the_request_is_bad(served: Served) -> None:
    answer = served.post(request("elsewhere", ["a"]))
    assert (answer.status, answer.headers["Content-Type"]) == (400, PROTOBUF)
    status = status_of(answer.body, is_json=False)
    assert status.message.endswith("source-not-allowed (the first: record 0)")
    assert status.violations == [status.message]


@pytest.mark.parametrize(
    ("body", "kind", "encoding", "expected"),
    [
        (b"\xff", PROTOBUF, "identity", 400),
        (b"{", JSON, "identity", 400),
        (b"\n\0", PROTOBUF, "gzip", 400),
        (b"\n\0", PROTOBUF, "zstd", 415),
        (b"\n\0", "text/plain", "identity", 415),
        (bytes(17 * 1024 * 1024), PROTOBUF, "identity", 413),
    ],
)
def test_a_bad_request_is_answered_in_its_notation(
    served: Served, body: bytes, kind: str, encoding: str, expected: int
) -> None:
    answer = served.post(body, kind, Content_Encoding=encoding)
    told_in = PROTOBUF if kind == PROTOBUF else JSON
    assert (answer.status, answer.headers["Content-Type"]) == (expected, told_in)
    assert status_of(answer.body, is_json=told_in == JSON).message


@pytest.mark.parametrize(("depth", "expected"), [(1, 200), (100, 503)])
def test_what_is_held_beside_a_body_counts_as_held(
    served: Served, depth: int, expected: int
) -> None:
    """Where brackets end is held: eight bytes for each pair of them."""
    pairs = b"[" * depth + b"]" * depth
    body = b'{"x":[' + b",".join([pairs] * (15 * 1024 * 1024 // len(pairs + b","))) + b"]}"
    answer = served.post(body, JSON)
    assert answer.status == expected
    if expected == 503:
        assert answer.headers["Retry-After"] == "1"
        assert "requests under way" in status_of(answer.body, is_json=True).message


def test_another_method_is_answered_as_everything_here(served: Served) -> None:
    answer = served.api.get(LOGS)
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")
    assert "takes POST" in status_of(answer.body, is_json=True).message


# --- a log that does not get on --------------------------------------------------------------


@pytest.mark.parametrize(
    ("bodies", "expected"),
    [(["small"], 504), (["x" * 200_000] * 64, 503)],
    ids=["not-durable", "no-room"],
)
def test_a_log_writer_that_stands_still_is_told_as_retryable(
    served: Served, bodies: list[str], expected: int
) -> None:
    assert served.post(request("svc-stopped", ["before"])).status == 200
    served.daemon.kill("log", signal.SIGSTOP)
    try:
        answer = served.post(request("svc-stopped", bodies))
    finally:
        served.daemon.kill("log", signal.SIGCONT)
    assert (answer.status, answer.headers["Retry-After"]) == (expected, "1")
    assert "send the request again" in status_of(answer.body, is_json=False).message
    wait_until("room", lambda: served.post(request("svc-stopped", bodies)).status == 200)
    found = [row["data"]["body"] for row in served.events("svc-stopped")]
    assert found[-len(bodies) :] == bodies


def test_who_sends_too_much_is_told_when_to_come_again() -> None:
    config = (
        '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n'
        "[api]\nevents_per_s_max = 10\n"
    )
    with running(config, doors=["api"]) as daemon:
        limited = Served(daemon, 0)
        assert limited.post(request("svc-busy", ["x"] * 1000)).status == 200
        answer = limited.post(request("svc-busy", ["y"]))
        assert answer.status == 429
        assert 90 < int(answer.headers["Retry-After"]) < 110
        assert status_of(answer.body, is_json=False).code == 8
        assert len(limited.events("svc-busy")) == 1000
        assert daemon.stop() == 0
