"""`Ring.append_payloads`: what somebody else has encoded goes into the ring as it is."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import certeus
from certeus._native import Ring
from support.fake_daemon import FakeDaemon, Session

RING = 64 * 1024
DATA_MAX = 1000
TYPE = b"\x01\x01\x00t"


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with FakeDaemon(str(tmp_path / "ingest.sock")) as daemon:
        producer = certeus.connect(daemon.path, source="test", ring_bytes=RING)
        yield daemon.session()
        with contextlib.suppress(certeus.Error):
            producer.close(0)


@pytest.fixture
def ring(session: Session) -> Ring:
    return Ring(session.p, session.c, session.bell, RING, 0, DATA_MAX)


def payload(data: bytes, attributes: bytes = TYPE, prefix: bytes = bytes(4)) -> bytes:
    return len(attributes).to_bytes(4, "little") + prefix + attributes + data


def buffer(*payloads: bytes) -> bytes:
    return b"".join(len(one).to_bytes(4, "little") + one for one in payloads)


def test_payloads_become_events_with_dense_tickets(session: Session, ring: Ring) -> None:
    whole = buffer(
        payload(b'{"a":1}', TYPE + b"\x02\x03\x00i-1"),
        payload(b"\x00\xff", TYPE + b"\x07\x03\x00a/b", b"\x01\0\0\0"),
        payload(b""),
    )
    assert ring.append_payloads(whole, 0) == (3, len(whole), 3)
    first, second, third = session.take(3)
    assert (first.ticket, first.attributes) == (1, {"type": "t", "id": "i-1"})
    assert (first.data, first.opaque) == (b'{"a":1}', False)
    assert (second.ticket, second.data, second.opaque) == (2, b"\x00\xff", True)
    assert (third.ticket, third.data) == (3, b"")


def test_nothing_of_nothing_is_appended(session: Session, ring: Ring) -> None:
    assert ring.append_payloads(b"", 0) == (0, 0, 0)
    whole = buffer(payload(b"1"))
    assert ring.append_payloads(whole, len(whole)) == (0, len(whole), 0)
    assert session.consumer.read() == []


def test_a_full_ring_takes_what_fits_and_the_rest_later(session: Session, ring: Ring) -> None:
    whole = buffer(*(payload(b"%03d" % n + bytes(900)) for n in range(100)))
    count, at, last = ring.append_payloads(whole, 0)
    assert 0 < count < 100
    assert last == count
    assert ring.append_payloads(whole, at) == (0, at, last)
    got = session.accept(count)
    more, end, last = ring.append_payloads(whole, at)
    assert (count + more, end, last) == (100, len(whole), 100)
    got += session.accept(more)
    assert [event.data[:3] for event in got] == [b"%03d" % n for n in range(100)]


def test_one_call_is_bounded(session: Session, ring: Ring) -> None:
    whole = buffer(*[payload(b"1")] * 1500)
    count, at, _ = ring.append_payloads(whole, 0)
    assert (count, at) == (1024, len(whole) // 1500 * 1024)
    session.accept(1024)
    assert ring.append_payloads(whole, at) == (476, len(whole), 1500)


def test_a_retired_ring_takes_nothing(session: Session, ring: Ring) -> None:
    ring.retire()
    assert ring.append_payloads(buffer(payload(b"1")), 0) == (0, 0, 0)
    assert session.consumer.read() == []


@pytest.mark.parametrize(
    ("broken", "what"),
    [
        (b"\x01\0\0", "its length is cut off"),
        (buffer(payload(b"12"))[:-1], "it reaches behind the end"),
        (b"\xff\xff\xff\xff", "it reaches behind the end"),
        (buffer(b"\0" * 7), "it has no prefix"),
        (buffer(payload(b"1", prefix=b"\x02\0\0\0")), "it has unknown flags"),
        (buffer(payload(b"1", prefix=b"\0\0\0\x01")), "its prefix does not end in zeros"),
        (buffer(b"\x09\0\0\0\0\0\0\0" + TYPE), "its attributes are cut off"),
        (buffer(payload(b"1", b"\x09\x01\0t")), "its attributes cannot be parsed"),
        (buffer(payload(b"1", TYPE + TYPE)), "its attributes cannot be parsed"),
        (buffer(payload(b"1", b"\x01\x02\0t")), "its attributes cannot be parsed"),
        (buffer(payload(bytes(DATA_MAX + 1))), "data has 1001 bytes, the daemon takes 1000"),
    ],
)
def test_a_malformed_payload_is_told_and_nothing_of_it_is_written(
    session: Session, ring: Ring, broken: bytes, what: str
) -> None:
    good = buffer(payload(b"1"), payload(b"2"))
    with pytest.raises(ValueError, match=what):
        ring.append_payloads(broken, 0)
    assert ring.last_ticket == 0
    assert ring.append_payloads(good + broken, 0) == (2, len(good), 2)
    with pytest.raises(ValueError, match=what):
        ring.append_payloads(good + broken, len(good))
    assert [event.data for event in session.take(2)] == [b"1", b"2"]
    assert session.consumer.read() == []
    assert ring.last_ticket == 2


def test_a_payload_larger_than_the_ring_takes_is_told(session: Session) -> None:
    ring = Ring(session.p, session.c, session.bell, RING, 0, RING)
    at_most = RING // 8 - 16 - len(payload(b""))
    with pytest.raises(ValueError, match="connect with larger ring_bytes"):
        ring.append_payloads(buffer(payload(bytes(at_most + 1))), 0)
    assert ring.append_payloads(buffer(payload(bytes(at_most))), 0)[0] == 1


def test_a_start_behind_the_end_is_told(ring: Ring) -> None:
    with pytest.raises(ValueError, match="it begins behind the end"):
        ring.append_payloads(buffer(payload(b"1")), 1000)
