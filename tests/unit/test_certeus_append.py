import contextlib
import json
import math
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import certeus
import certeus.event
from certeus._native import Ring
from support.fake_daemon import FakeDaemon, Session


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with FakeDaemon(str(tmp_path / "ingest.sock")) as daemon:
        yield daemon


@pytest.fixture
def producer(daemon: FakeDaemon) -> Iterator[certeus.Producer]:
    producer = certeus.connect(daemon.path, source="test", ring_bytes=64 * 1024)
    yield producer
    with contextlib.suppress(certeus.InDoubtError):
        producer.close(0)


@pytest.fixture
def session(daemon: FakeDaemon, producer: certeus.Producer) -> Session:
    return daemon.session()


def test_bytes_travel_as_they_are(producer: certeus.Producer, session: Session) -> None:
    ticket = producer.append("payment", b'{"amount": 1500}', id="o-17")
    (event,) = session.take(1)
    assert ticket == event.ticket == 1
    assert event.attributes == {"type": "payment", "id": "o-17"}
    assert event.data == b'{"amount": 1500}'
    assert not event.opaque


def test_tickets_are_dense_from_one(producer: certeus.Producer, session: Session) -> None:
    tickets = [producer.append("n", b"1") for _ in range(5)]
    tickets.append(producer.append_many("n", [b"1", b"2"]))
    assert tickets == [1, 2, 3, 4, 5, 7]
    assert [event.ticket for event in session.take(7)] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"a": 1, "ü": [True, None, 1.5]}, '{"a":1,"ü":[true,null,1.5]}'),
        ('say "hi"\n', '"say \\"hi\\"\\n"'),
        ("größe", '"größe"'),
        (3, "3"),
        (False, "false"),
        (None, "null"),
        ([], "[]"),
    ],
)
def test_values_become_json_text(
    producer: certeus.Producer, session: Session, data: certeus.event.Json, text: str
) -> None:
    producer.append("v", data)
    producer.append_many("v", [data])
    for event in session.take(2):
        assert event.data == text.encode()
        assert not event.opaque


def test_every_attribute_arrives(producer: certeus.Producer, session: Session) -> None:
    zone = timezone(timedelta(hours=2))
    producer.append(
        "t",
        {},
        id="i",
        subject="s",
        time=datetime(2024, 2, 29, 12, 0, 0, 5, zone),
        source="other",
        content_type="application/json",
        dataschema="urn:x",
        extensions={"traceparent": "00-ab", "n": 3, "b": True},
    )
    (event,) = session.take(1)
    extensions = event.attributes.pop("extensions")
    assert json.loads(extensions) == {"traceparent": "00-ab", "n": 3, "b": True}
    assert event.attributes == {
        "type": "t",
        "id": "i",
        "subject": "s",
        "time": "2024-02-29T12:00:00.000005+02:00",
        "source": "other",
        "content_type": "application/json",
        "dataschema": "urn:x",
    }


@pytest.mark.parametrize(
    ("content_type", "opaque"),
    [(None, False), ("application/json", False), ("application/x+json; v=1", False), ("a/b", True)],
)
def test_bytes_are_json_unless_the_content_type_says_otherwise(
    producer: certeus.Producer, session: Session, content_type: str | None, opaque: bool
) -> None:
    producer.append("t", b"\xff\x00", content_type=content_type)
    producer.append("t", bytearray(b"\xff\x00"), content_type=content_type)
    assert [event.opaque for event in session.take(2)] == [opaque, opaque]


def test_time_is_never_filled_in_and_text_is_kept(
    producer: certeus.Producer, session: Session
) -> None:
    producer.append("t", b"1")
    producer.append("t", b"1", time="2024-02-29t12:00:00.123456789Z")
    first, second = session.take(2)
    assert "time" not in first.attributes
    assert second.attributes["time"] == "2024-02-29t12:00:00.123456789Z"


BAD: list[tuple[type[Exception], dict[str, object]]] = [
    (ValueError, {"type": ""}),
    (ValueError, {"type": "t" * 256}),
    (ValueError, {"type": "a\0b"}),
    (ValueError, {"id": ""}),
    (ValueError, {"subject": "s" * 1025}),
    (ValueError, {"data": math.nan}),
    (ValueError, {"data": {"x": [math.inf]}}),
    (ValueError, {"data": "\ud800"}),
    (ValueError, {"data": {"\udfff": 1}}),
    (ValueError, {"id": "\ud800"}),
    (TypeError, {"data": {1, 2}}),
    (TypeError, {"data": object()}),
    (ValueError, {"data": b"x" * 2000}),
    (ValueError, {"time": "2023-02-29T00:00:00Z"}),
    (ValueError, {"time": "2023-02-28T00:00:00"}),
    (ValueError, {"time": "yesterday"}),
    (ValueError, {"time": datetime(2024, 1, 1)}),
    (ValueError, {"extensions": {"Trace": "x"}}),
    (ValueError, {"extensions": {f"n{n}": n for n in range(33)}}),
    (ValueError, {"extensions": {"n": "x" * 20_000}}),
    (TypeError, {"extensions": {"n": 1.5}}),
]


@pytest.mark.parametrize(("error", "arguments"), BAD)
def test_what_the_caller_can_know_is_raised_and_nothing_is_appended(
    daemon: FakeDaemon, error: type[Exception], arguments: dict[str, object]
) -> None:
    daemon.event_bytes_max = 1999
    with certeus.connect(daemon.path, source="test", ring_bytes=64 * 1024) as producer:
        session = daemon.session()
        given: dict[str, object] = {"type": "t", "data": b"1", **arguments}
        appends: list[Callable[..., int]] = [producer.append, producer.append_nowait]
        for append in appends:
            with pytest.raises(error, match=r"[;:].*\w"):
                append(**given)
        assert producer.append("good", b"1") == 1
        assert session.accept(1)[0].attributes == {"type": "good"}


def test_an_event_larger_than_the_ring_carries_is_an_error(
    producer: certeus.Producer, session: Session
) -> None:
    largest = 64 * 1024 // 8 - 16 - 8 - 4
    with pytest.raises(ValueError, match="larger ring_bytes"):
        producer.append("t", b"x" * (largest + 1))
    assert producer.append("t", b"x" * largest) == 1
    assert len(session.take(1)[0].data) == largest


def test_append_many_takes_every_kind_of_row_in_order(
    producer: certeus.Producer, session: Session
) -> None:
    event = certeus.Event(b"5", type="own", id="e")
    rows: list[Any] = [
        b"1",
        b"2",
        {"n": 3},
        "four",
        event,
        certeus.Event({"n": 6}),
        7,
        bytearray(b"8"),
    ]
    want = [b"1", b"2", b'{"n":3}', b'"four"', b"5", b'{"n":6}', b"7", b"8"]
    for many in (rows, tuple(rows), iter(rows)):
        last = producer.append_many("t", many)
        assert last == producer.statistics().appended
        got = session.take(8)
        assert [event.data for event in got] == want
        assert [event.attributes["type"] for event in got] == ["t"] * 4 + ["own"] + ["t"] * 3


@pytest.mark.parametrize("row", [b"1", {"n": 1}])
def test_the_first_of_many_rows_does_not_wait_for_the_last(
    session: Session, row: certeus.event.Data
) -> None:
    ring = Ring(session.p, session.c, session.bell, 64 * 1024, 0, 1000)
    assert ring.append_many("t", [row] * 1000, 0) == (256, 256)
    assert ring.append_many("t", [row] * 1000, 900) == (100, 356)
    assert len(session.take(356)) == 356


def test_append_many_of_nothing_is_the_last_ticket(producer: certeus.Producer) -> None:
    assert producer.append_many("t", []) == 0
    producer.append("t", b"1")
    assert producer.append_many("t", iter(())) == 1


@pytest.mark.parametrize("kind", [list, iter])
@pytest.mark.parametrize("good", [b"1", {"a": 1}])
def test_append_many_that_fails_says_how_far_it_came(
    producer: certeus.Producer, session: Session, kind: type, good: certeus.event.Data
) -> None:
    with pytest.raises(ValueError, match=r"NaN|Out of range") as caught:
        producer.append_many("t", kind([good, good, math.nan, good]))
    assert vars(caught.value)["last_ticket"] == 2
    assert len(session.take(2)) == 2
    assert producer.statistics().appended == 2


def test_thousands_of_rows_wrap_the_ring_and_stay_in_order(daemon: FakeDaemon) -> None:
    daemon.serving = True
    rows = [b"%d" % n * (1 + n % 50) for n in range(20_000)]
    with certeus.connect(daemon.path, source="test", ring_bytes=64 * 1024) as producer:
        last = producer.append_many("t", rows)
        producer.wait_durable(last)
        assert producer.receipt(last).seq == 20_000
        assert producer.statistics().accepted == 20_000


def test_a_connection_needs_a_proper_source_and_ring(daemon: FakeDaemon) -> None:
    for source, ring_bytes in [("", 65536), ("x" * 256, 65536), ("x", 65535), ("x", 1 << 30)]:
        with pytest.raises(ValueError, match=r"give a"):
            certeus.connect(daemon.path, source=source, ring_bytes=ring_bytes)
