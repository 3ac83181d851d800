"""`POST /v1/ledger/events` of a real certeusd, by the clients that its users have."""

import json
import os
import pwd
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from cloudevents.core.bindings import http as binding
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from support.api_asking import Answer
from support.api_client import EVENTS, NDJSON, Api, curl
from support.api_front import everything
from support.daemon import Daemon, running
from support.waiting import wait_until

pytestmark = pytest.mark.integration

AWAY = '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n'
ONE, BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"
URL = f"http://localhost{EVENTS}"


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running(AWAY, doors=["api"]) as daemon:
        yield daemon
        assert daemon.stop() == 0


@pytest.fixture
def api(daemon: Daemon) -> Api:
    return Api(daemon.runtime_dir / "api.sock")


def events(api: Api, source: str) -> list[dict[str, object]]:
    """What is in the log of a source."""
    answer = api.get(f"{EVENTS}?source={source}&limit=100000")
    assert answer.status == 200, answer.body
    return answer.lines


def data_of(shown: dict[str, object]) -> dict[str, object]:
    data = shown["data"]
    assert isinstance(data, dict)
    return cast("dict[str, object]", data)


def event(**attributes: object) -> dict[str, object]:
    return {"specversion": "1.0", "id": "1", "source": "s", "type": "t", **attributes}


def verdicts(answer: Answer) -> list[tuple[int, int, str, str]]:
    return [
        (run["index"], run["count"], run["verdict"], run.get("reason", ""))
        for run in answer.json["verdicts"]
    ]


# --- the clients of its users ----------------------------------------------------------------


def test_curl_as_the_documentation_types_it(daemon: Daemon, api: Api) -> None:
    path = daemon.runtime_dir / "api.sock"
    done = curl(path, f"{URL}?type=order.paid&source=shop", "-d", '{"amount": 1500}')
    assert (done["accepted"], done["rejected"]) == (1, 0)
    lines = b'{"n": 1}\n{"n": 2}\n'
    done = curl(
        path, f"{URL}?type=tick&source=shop", "-H", f"Content-Type: {NDJSON}", "--data-binary",
        "@-", stdin=lines,
    )  # fmt: skip
    assert done["verdicts"] == [
        {"index": 0, "count": 2, "verdict": "accepted", "seq": done["last_seq"] - 1}
    ]
    found = events(api, "shop")
    assert [one["data"] for one in found] == [{"amount": 1500}, {"n": 1}, {"n": 2}]
    assert [one["type"] for one in found] == ["order.paid", "tick", "tick"]


@pytest.mark.parametrize("write", [binding.to_structured, binding.to_binary])
@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ({"a": [1, "é"]}, "application/json"), ("text", "text/plain"),
        (b"\x00\xff", "image/png"), (None, None),
    ],
)  # fmt: skip
def test_the_sdk_of_cloudevents_in_both_modes(
    api: Api,
    write: Callable[[CloudEvent, JSONFormat], binding.HTTPMessage],
    data: dict[str, object] | str | bytes | None,
    kind: str | None,
) -> None:
    source = f"sdk/{write.__name__}/{type(data).__name__}"
    attributes: dict[str, object] = {
        "id": "a é/1", "source": source, "type": "com.example.made", "subject": "x y",
        "time": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "traceparent": "00-1-2-01",
        **({"datacontenttype": kind} if kind else {}),
    }  # fmt: skip
    message = write(CloudEvent(attributes, data), JSONFormat())
    answer = api.ask("POST", EVENTS, message.body, message.headers)
    assert answer.status == 200, answer.body
    (found,) = events(api, source)
    for name in ("id", "type", "subject", "traceparent"):
        assert found[name] == attributes[name]
    assert found["time"] in ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05+00:00")
    # What is shown is a CloudEvent again.
    again = JSONFormat().read(None, json.dumps(found))
    if isinstance(data, str) and write is binding.to_binary:
        # The body's bytes, whose content type says that they are no JSON.
        assert again.get_data() == data.encode()
    else:
        assert again.get_data() == data


# --- verdicts --------------------------------------------------------------------------------


def test_a_bad_event_has_its_reason_and_the_rest_is_taken(api: Api) -> None:
    batch = [event(id=one, source="mix") for one in ("b1", "", "b2", "b3", "b1")]
    batch[3]["time"] = "yesterday"
    answer = api.post(json.dumps(batch).encode(), BATCH)
    assert (answer.status, answer.headers["Content-Type"]) == (422, "application/problem+json")
    assert verdicts(answer) == [
        (0, 1, "accepted", ""), (1, 1, "rejected", "missing-id"), (2, 1, "accepted", ""),
        (3, 1, "rejected", "invalid-time"), (4, 1, "duplicate", ""),
    ]  # fmt: skip
    first, last = answer.json["verdicts"][0], answer.json["verdicts"][-1]
    assert last["seq"] == first["seq"]
    assert [one["id"] for one in events(api, "mix")] == ["b1", "b2"]


def test_each_event_of_a_long_batch_has_its_own_verdict(api: Api) -> None:
    batch = [0 if n % 7 == 3 else event(id=str(n), source="parts") for n in range(10_000)]
    answer = api.post(json.dumps(batch).encode(), BATCH)
    assert answer.status == 422
    bad = [run for run in answer.json["verdicts"] if run["verdict"] == "rejected"]
    assert [run["index"] for run in bad] == list(range(3, 10_000, 7))
    assert {run["count"] for run in bad} == {1}
    assert answer.json["accepted"] == 10_000 - len(bad)
    wanted = [str(n) for n in range(10_000) if n % 7 != 3]
    assert [one["id"] for one in events(api, "parts")] == wanted


def test_a_batch_of_a_million_costs_no_more_than_its_body(daemon: Daemon, api: Api) -> None:
    answer = api.post(b"[" + b"0,{}," * 500_000 + b"0]", BATCH)
    assert (answer.status, answer.json["rejected"]) == (422, 1_000_001)
    assert not answer.json["complete"]
    (pid,) = daemon.pids("api")
    status = Path(f"/proc/{pid}/status").read_text()
    most = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    assert most < 250 * 1024


def test_a_request_that_is_sent_again_is_recognised(api: Api) -> None:
    body = "".join(json.dumps(event(id=str(n), source="again")) + "\n" for n in range(500))
    first, second = (api.post(body.encode(), NDJSON).json for _ in range(2))
    assert (first["accepted"], first["duplicates"]) == (500, 0)
    assert (second["accepted"], second["duplicates"]) == (0, 500)
    assert len(events(api, "again")) == 500


def test_a_body_of_any_length_is_read_as_it_comes(api: Api) -> None:
    line = json.dumps({"text": "x" * 70}).encode() + b"\n"

    def blocks() -> Iterator[bytes]:
        for at in range(40):
            # Cut within lines.
            block = line * 5000
            yield block[: at * 7]
            yield block[at * 7 :]

    before, bytes_before = appended(api), appended(api, "bytes")
    answer = api.post(blocks(), NDJSON, "?type=t&source=long")
    assert answer.status == 200, answer.body[:300]
    assert (answer.json["accepted"], answer.json["complete"]) == (200_000, True)
    assert len(answer.json["verdicts"]) == 1
    assert appended(api) == before + 200_000
    each = (appended(api, "bytes") - bytes_before) / 200_000
    assert len(line) - 1 < each < 2 * len(line)


def appended(api: Api, what: str = "events") -> int:
    """What the api has put into rings since the daemon began."""
    told = api.get("/v1/ledger/metrics").body.decode()
    found = re.search(rf'^certeus_door_{what}_total\{{door="api"\}} (\S+)$', told, re.M)
    assert found is not None, told
    return int(float(found[1]))


def test_a_body_may_take_longer_than_its_verdicts(daemon: Daemon, api: Api) -> None:
    head = f"POST {EVENTS}?type=t&source=slow&timeout_s=2 HTTP/1.1\r\nHost: x\r\n"
    kind = f"Connection: close\r\nContent-Type: {NDJSON}\r\nContent-Length: 18\r\n\r\n"
    before = appended(api)
    with socket.socket(socket.AF_UNIX) as end:
        end.settimeout(60)
        end.connect(str(api.path))
        end.sendall((head + kind).encode() + b'{"n": 0}\n')
        ends_at = time.monotonic() + 2.5
        wait_until("more than its time", lambda: time.monotonic() > ends_at)
        daemon.kill("log", signal.SIGSTOP)
        try:
            end.sendall(b'{"n": 1}\n')
            # A late answer would be there by then.
            wait_until("both", lambda: appended(api) == before + 2)
        finally:
            daemon.kill("log", signal.SIGCONT)
        assert everything(end).startswith(b"HTTP/1.1 200")
    assert [one["data"] for one in events(api, "slow")] == [{"n": 0}, {"n": 1}]


def test_nothing_is_waited_for_where_that_is_asked(daemon: Daemon, api: Api) -> None:
    assert api.lines([{"n": 0}], "?type=t&source=quick").status == 200
    daemon.kill("log", signal.SIGSTOP)
    try:
        answer = api.lines([{"n": 1}, {"n": 2}], "?type=t&source=quick&wait=none")
        assert (answer.status, answer.json["pending"]) == (202, 2)
        told = api.get("/openapi.json").json["paths"][EVENTS]["post"]["responses"]
        assert told["202"] == told["200"]
        late = api.lines([{"n": 3}], "?type=t&source=quick&timeout_s=0.3")
        assert (late.status, late.json["pending"]) == (504, 1)
        assert "Retry-After" in late.headers
    finally:
        daemon.kill("log", signal.SIGCONT)
    assert api.lines([{"n": 4}], "?type=t&source=quick").status == 200
    assert [one["data"] for one in events(api, "quick")] == [{"n": n} for n in range(5)]


def test_a_full_ring_is_told_and_what_fitted_is_kept(daemon: Daemon, api: Api) -> None:
    rows = [{"n": n, "fill": "x" * 100_000} for n in range(150)]
    daemon.kill("log", signal.SIGSTOP)
    try:
        answer = api.lines(rows, "?type=t&source=full&timeout_s=1")
    finally:
        daemon.kill("log", signal.SIGCONT)
    assert (answer.status, answer.json["type"]) == (503, "urn:certeus:problem:back-pressure")
    taken = answer.json["events"]
    assert 0 < taken < 150
    assert api.lines([{"n": "last"}], "?type=t&source=full").status == 200
    numbers = [one["n"] for one in map(data_of, events(api, "full"))]
    assert numbers == [*range(taken), "last"]


# --- what is refused as a whole --------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "kind", "query", "status"),
    [
        (b"x", "application/octet-stream", "", 415),
        (b"{", ONE, "", 400),
        (b"[]", ONE, "", 400),
        (b"{}", BATCH, "", 400),
        (b"{}", NDJSON, "?typ=t", 400),
        (b"{}", NDJSON, "?type=t&wait=maybe", 400),
        (b"{}", NDJSON, "?type=t&timeout_s=-1", 400),
        (b"{}", NDJSON, "?type=t&timeout_s=nan", 400),
        (b" " * (400 * 1024), NDJSON, "?type=t", 413),
        (b"[" + b" " * (17 << 20) + b"]", BATCH, "", 413),
    ],
)
def test_a_request_that_cannot_be_understood_changes_nothing(
    api: Api, body: bytes, kind: str, query: str, status: int
) -> None:
    answer = api.post(body, kind, query)
    assert (answer.status, answer.json["status"]) == (status, status), answer.body
    assert answer.json["detail"]


@pytest.mark.parametrize("missing", ["ce-specversion", "ce-id", "ce-source", "ce-type"])
def test_binary_mode_wants_what_the_specification_requires(api: Api, missing: str) -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "s", "ce-type": "t"}
    del headers[missing]
    answer = api.ask("POST", EVENTS, b"{}", headers)
    assert answer.status == 400
    assert missing in answer.json["detail"]


def test_a_structured_event_is_what_its_body_says_whatever_headers_say(api: Api) -> None:
    own = event(id="in-body", source="structured", data={"n": 1})
    headers = {"ce-specversion": "1.0", "ce-id": "h", "ce-source": "headers", "ce-type": "t"}
    for kind, body in ((ONE, own), (BATCH, [own | {"id": "2"}])):
        named = {"Content-Type": kind, **headers}
        assert api.ask("POST", EVENTS, json.dumps(body).encode(), named).status == 200
    assert [one["id"] for one in events(api, "structured")] == ["in-body", "2"]
    assert events(api, "headers") == []
    unknown = {"Content-Type": "application/cloudevents+xml", **headers}
    assert api.ask("POST", EVENTS, b"<a/>", unknown).status == 415


@pytest.mark.parametrize(
    ("sent", "subject"),
    [
        ("%C3%A9 %22", 'é "'), ('"a b"', "a b"), (r'"a \"b\" \\"', 'a "b" \\'),
        ('a"', 'a"'), ('"a" "b', '"a" "b'), ("100%", "100%"),
    ],
)  # fmt: skip
def test_a_header_is_taken_as_it_was_meant(api: Api, sent: str, subject: str) -> None:
    source = f"headers/{subject.encode().hex()}"
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": source, "ce-type": "t"}
    answer = api.ask("POST", EVENTS, b"{}", {**headers, "ce-subject": sent})
    assert answer.status == 200, answer.body
    (found,) = events(api, source)
    assert found["subject"] == subject


def test_a_header_that_is_not_clear_is_refused(api: Api) -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "s", "ce-type": "t"}
    for bad in (("ce-subject", "%FF"), ("ce-subject", "%C3"), ("CE-Id", "2")):
        with socket.socket(socket.AF_UNIX) as end:
            end.settimeout(20)
            end.connect(str(api.path))
            lines = [f"{name}: {value}" for name, value in (*headers.items(), bad)]
            head = [f"POST {EVENTS} HTTP/1.1", "Host: x", "Content-Length: 2", *lines]
            end.sendall("\r\n".join([*head, "Connection: close", "", "{}"]).encode())
            told = everything(end)
        assert told.startswith(b"HTTP/1.1 400"), told
        assert bad[0].lower().encode() in told


@pytest.mark.parametrize(
    ("kind", "query", "named"),
    [
        (NDJSON, "?type=t&id=1", "id"),
        (NDJSON, "?type=t&subject=s", "subject"),
        (NDJSON, "?type=t&time=2026-01-02T03:04:05Z", "time"),
        (NDJSON, "?type=t&dataschema=s", "dataschema"),
        (NDJSON, "?source=s", "source"),
        (NDJSON, "?id_field=n", "id_field"),
        (ONE, "?type=t", "type"),
        (ONE, "?id_field=n", "id_field"),
        (BATCH, "?source=s", "source"),
        ("application/json", "?type=t&source=s&id_field=n", "id_field"),
        ("application/json", "?type=t&source=s&subject_field=n", "subject_field"),
        ("application/json", "?type=t&source=%FF", "query"),
        ("application/json", "?type=t&source=s&source=z", "source"),
    ],
)
def test_what_a_query_says_and_would_change_nothing_is_refused(
    api: Api, kind: str, query: str, named: str
) -> None:
    answer = api.post(json.dumps(event()).encode(), kind, query)
    assert answer.status == 400, answer.body
    assert named in answer.json["detail"].split()


def test_an_empty_body_is_no_event(api: Api) -> None:
    answer = api.post(b"", NDJSON, "?type=t")
    assert (answer.status, answer.json["events"], answer.json["verdicts"]) == (200, 0, [])


def test_time_is_bounded_for_who_waits(daemon: Daemon, api: Api) -> None:
    daemon.kill("log", signal.SIGSTOP)
    try:
        began = time.monotonic()
        assert api.lines([{}], "?type=t&source=bound&timeout_s=0.5").status == 504
        assert time.monotonic() - began < 10
    finally:
        daemon.kill("log", signal.SIGCONT)


def test_the_own_source_of_a_user_is_named_only_where_it_is_allowed() -> None:
    own = f"api/{pwd.getpwuid(os.getuid()).pw_name}"
    with running(f'{AWAY}[api]\nsources = ["shop/*"]\n', doors=["api"]) as daemon:
        api = Api(daemon.runtime_dir / "api.sock")
        for source, status in ((own, 422), ("other", 422), ("shop/1", 200)):
            answer = api.post(b'{"n": 1}', "application/json", f"?type=t&source={source}")
            assert answer.status == status, answer.body
            assert api.lines([event(source=source)], "").status == status
        assert [one["source"] for one in api.get(EVENTS).lines] == ["shop/1", "shop/1"]
        assert daemon.stop() == 0
