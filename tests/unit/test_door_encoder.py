"""What Python hands to a door's encoder, and what of it a ring takes."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import certeus
from certeus._native import Ring
from certeusd._native import Datagrams, DoorEncoder, Encoded, SegmentBuilder
from certeusd.log.reader import Filter
from certeusd.log.tailing import Tailing
from support.fake_daemon import Event, FakeDaemon, Session, decode

RING = 64 * 1024
DATA_MAX = 1000


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with FakeDaemon(str(tmp_path / "ingest.sock")) as daemon:
        producer = certeus.connect(daemon.path, source="door", ring_bytes=RING)
        yield daemon.session()
        with contextlib.suppress(certeus.Error):
            producer.close(0)


def encoder(*sources: str) -> DoorEncoder:
    return DoorEncoder(DATA_MAX, "door", sources or ("*",))


def events(encoded: Encoded) -> list[Event]:
    rest, found = encoded.payloads, list[Event]()
    while rest:
        size = int.from_bytes(rest[:4], "little")
        found.append(decode(len(found) + 1, rest[4 : 4 + size]))
        rest = rest[4 + size :]
    assert len(found) == encoded.count == encoded.seen - len(encoded.refused)
    return found


def cloudevent(**members: object) -> bytes:
    required = {"specversion": "1.0", "id": "i", "source": "s", "type": "t"}
    return json.dumps(required | members).encode()


def test_a_ring_takes_what_an_encoder_makes(session: Session) -> None:
    ring = Ring(session.p, session.c, session.bell, RING, 0, DATA_MAX)
    block = b'{"n":1}\n\n[]\r\n{"n": 2}\r\n{"n":3}'
    encoded = encoder().data_lines(block, "tick", source="s")
    assert encoded.refused == [(1, "not-an-object")]
    assert (encoded.count, encoded.seen) == (2, 3)
    assert block[encoded.consumed :] == b'{"n":3}'
    payloads = encoded.payloads
    assert ring.append_payloads(payloads, 0) == (2, len(payloads), 2)
    got = session.take(2)
    assert [event.data for event in got] == [b'{"n":1}', b'{"n": 2}']
    assert got[0].attributes == {"type": "tick", "source": "s"}


def test_the_last_line_needs_no_end_when_nothing_follows() -> None:
    encoded = encoder().data_lines(b'{"n":3}', "t", final=True)
    assert (encoded.count, encoded.consumed) == (1, 7)


def test_fields_give_id_and_subject() -> None:
    lines = b'{"o":17,"who":"a\\u00e9"}\n{"o":18}\n{"o":true,"who":"b"}\n{"o":1,"who":"b"\n'
    encoded = encoder().data_lines(lines, "t", id_field="o", subject_field="who")
    assert encoded.refused == [
        (1, "no-field-who"),
        (2, "field-o-is-no-text"),
        (3, "invalid-json"),
    ]
    (event,) = events(encoded)
    assert event.attributes == {"type": "t", "id": "17", "subject": "a\u00e9"}


def test_cloudevents_come_by_the_line_in_a_batch_or_alone() -> None:
    whole = cloudevent(data={"a": 1}, subject="x", traceparent="00-1", level=3)
    bad = cloudevent(id=None)
    lines = encoder().cloudevents_lines(whole + b"\n" + bad + b"\n" + whole)
    assert (lines.count, lines.refused) == (1, [(1, "missing-id")])
    assert lines.consumed == len(whole) + len(bad) + 2
    batch = encoder().cloudevents_batch(b"[" + whole + b", " + bad + b"\n," + whole + b"]")
    assert (batch.count, batch.refused) == (2, [(1, "missing-id")])
    one = encoder().cloudevent(whole)
    for encoded in (lines, batch, one):
        event = events(encoded)[0]
        assert event.data == b'{"a": 1}'
        assert event.attributes == {
            "type": "t",
            "id": "i",
            "source": "s",
            "subject": "x",
            "extensions": '{"traceparent":"00-1","level":3}',
        }


@pytest.mark.parametrize("body", [b"", b"1", b"{}", b"[", b"[{}", b"[{},]", b"[1 2]", b"[] []"])
def test_a_body_that_is_no_array_is_told_as_a_whole(body: bytes) -> None:
    with pytest.raises(ValueError, match="cannot read the batch: the body is not a JSON array"):
        encoder().cloudevents_batch(body)


@pytest.mark.parametrize("body", [b"", b"1", b"[]", b"{", b"{} {}", b'"{}"'])
def test_a_body_that_is_no_object_is_told_as_a_whole(body: bytes) -> None:
    with pytest.raises(ValueError, match="cannot read the event: the body is not a JSON object"):
        encoder().cloudevent(body)


def test_an_event_may_come_in_parts() -> None:
    door = encoder()
    (plain,) = events(door.event(b'{"a":1}', None, "t", id="i", content_type="a/b+json"))
    assert (plain.data, plain.opaque) == (b'{"a":1}', False)
    (opaque,) = events(door.event(b"\xff", None, "t", content_type="text/plain"))
    assert (opaque.data, opaque.opaque) == (b"\xff", True)
    (text,) = events(door.event(b'"x"', False, "t", content_type="text/plain"))
    assert (text.data, text.opaque) == (b'"x"', False)
    (nothing,) = events(door.event(None, None, "t", content_type="text/plain"))
    assert (nothing.data, nothing.opaque) == (b"null", False)
    refused = door.event(b"1", None, "t", extensions='{"a":1,"tenant":"x"}')
    assert (refused.seen, refused.refused) == (1, [(0, "reserved-name")])


def test_a_source_that_may_not_be_claimed_is_refused_and_the_own_is_not_told() -> None:
    door = encoder("sensor/*", "door")
    for source, refused in (("door", []), ("sensor/1", []), ("x", [(0, "source-not-allowed")])):
        encoded = door.cloudevent(cloudevent(source=source))
        assert encoded.refused == refused
        told = [event.attributes.get("source") for event in events(encoded)]
        assert told == ([] if refused else [None if source == "door" else source])
    assert encoder("sensor/*").cloudevent(cloudevent(source="door")).refused == [
        (0, "source-not-allowed")
    ]


def test_what_certeus_shows_can_be_sent_again(tmp_path: Path) -> None:
    sent = cloudevent(data=[1, 2.50], time="2026-01-01T00:00:00Z", level=3, dataschema="d:e")
    (event,) = events(encoder().cloudevent(sent))
    attributes: dict[str, Any] = dict(event.attributes)
    builder = SegmentBuilder(tmp_path, bytes(16), bytes(32))
    builder.segment()
    builder.producer(1, "default", "door")
    builder.record(1, 1, attributes.pop("type"), event.data, **attributes)
    builder.commit(1)
    for versioned in (False, True):
        shown = Tailing(tmp_path, Filter(), 0, versioned=versioned).read(1)
        assert shown is not None
        (again,) = events(encoder().cloudevents_lines(shown.bytes))
        assert again == event


def test_syslog_comes_by_the_datagram_or_in_a_stream() -> None:
    told = b"<34>1 2003-10-11T22:14:15.003Z host su - - - failed"
    old = b"<13>Oct 11 22:14:15 cron[7]: started"
    datagrams = encoder().syslog(Datagrams([told, b"\n", old]), source="syslog/host")
    stream = encoder().syslog_stream(
        b"%d %s%s\n<13>no" % (len(told), told, old), source="syslog/host"
    )
    assert stream.consumed == len(told) + len(old) + 4
    for encoded in (datagrams, stream):
        first, second = events(encoded)
        assert first.attributes == {
            "type": "syslog",
            "source": "syslog/host",
            "time": "2003-10-11T22:14:15.003Z",
        }
        assert json.loads(first.data) == {
            "priority": 34,
            "facility": "auth",
            "severity": "crit",
            "hostname": "host",
            "appname": "su",
            "message": "failed",
        }
        assert "time" not in second.attributes
        assert json.loads(second.data)["timestamp"] == "Oct 11 22:14:15"


def test_a_stream_with_an_impossible_length_is_told_when_all_before_it_is_taken() -> None:
    block = b"<13>a\n1000 x"
    encoded = encoder().syslog_stream(block, frame_bytes_max=100)
    assert (encoded.count, encoded.consumed) == (1, 6)
    with pytest.raises(ValueError, match="cannot read the stream: its next message claims more"):
        encoder().syslog_stream(block[encoded.consumed :], frame_bytes_max=100)
    assert encoder().syslog_stream(b"5 x", final=True).refused == [(0, "cut-off")]
    with pytest.raises(ValueError, match="cannot read frames of 0 bytes"):
        encoder().syslog_stream(b"", frame_bytes_max=0)


def test_an_encoder_of_events_larger_than_any_ring_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot make an encoder: event_bytes_max is 33554432"):
        DoorEncoder(32 * 1024 * 1024, "door", [])
    assert DoorEncoder(256 * 1024, "door", []).payload_bytes_max < 4 * 1024 * 1024 // 8 - 16
