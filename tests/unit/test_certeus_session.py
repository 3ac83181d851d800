import contextlib
import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import certeus
from support.fake_daemon import LOG_ID, FakeDaemon, Session, Verdict

RING = 64 * 1024
REJECTED = Verdict("rejected", reason="invalid-json")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[FakeDaemon]:
    with FakeDaemon(str(tmp_path / "ingest.sock")) as daemon:
        yield daemon


@pytest.fixture
def producer(daemon: FakeDaemon) -> Iterator[certeus.Producer]:
    producer = certeus.connect(daemon.path, source="test", ring_bytes=RING)
    yield producer
    with contextlib.suppress(certeus.Error):
        producer.close(0)


@pytest.fixture
def session(daemon: FakeDaemon, producer: certeus.Producer) -> Session:
    return daemon.session()


# --- the first hello -----------------------------------------------------------------------------


def test_the_hello_says_who_we_are(daemon: FakeDaemon, session: Session) -> None:
    hello = session.hello
    assert hello["certeus"] == 1
    assert hello["source"] == "test"
    assert hello["ring_bytes"] == RING
    assert hello["birth_seq"] is None
    assert hello["settled"] == 0
    assert len(bytes.fromhex(str(hello["producer"]))) == 16


def test_no_daemon_is_a_connect_error_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(certeus.ConnectError, match="start it") as caught:
        certeus.connect(tmp_path / "nobody.sock", source="test")
    assert caught.value.reason == "unreachable"


def test_a_path_too_long_for_a_unix_socket_is_told() -> None:
    with pytest.raises(certeus.ConnectError, match="longer than 107"):
        certeus.connect("/tmp/" + "x" * 120, source="test")


def test_a_refused_first_hello_tells_the_daemons_reason(daemon: FakeDaemon) -> None:
    for reason in ("uid-not-allowed", "too-many-sessions"):
        daemon.refuse(reason)
        with pytest.raises(certeus.ConnectError, match="do something else") as caught:
            certeus.connect(daemon.path, source="test")
        assert caught.value.reason == reason


def test_a_first_hello_that_meets_the_end_of_a_daemon_is_said_to_the_next_one(
    daemon: FakeDaemon,
) -> None:
    daemon.refuse("draining", times=3)
    daemon.answer(None)
    daemon.answer(b"")
    daemon.answer(b"\x01")
    certeus.connect(daemon.path, source="test", timeout=30).close()


def test_a_daemon_that_only_ever_ends_is_told_when_the_time_is_over(daemon: FakeDaemon) -> None:
    daemon.refuse("draining", times=100)
    with pytest.raises(certeus.ConnectError, match="do something else"):
        certeus.connect(daemon.path, source="test", timeout=0.05)


@pytest.mark.parametrize(
    "answer",
    [
        b"nonsense",
        b"[]",
        b'{"welcome":true}',
        b'{"refused":3}',
        b'{"welcome":true,"session":1,"log_id":"x","birth_seq":1,"high":-1}',
        b"[" * 4000,
    ],
)
def test_garbage_for_a_first_answer_is_a_connect_error(daemon: FakeDaemon, answer: bytes) -> None:
    daemon.answer(answer)
    with pytest.raises(certeus.ConnectError):
        certeus.connect(daemon.path, source="test", timeout=5)


def test_the_socket_is_searched_where_the_environment_says(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CERTEUS_SOCKET", daemon.path)
    certeus.connect(source="test").close()
    monkeypatch.delenv("CERTEUS_SOCKET")
    (tmp_path / "certeus").mkdir()
    (tmp_path / "certeus" / "ingest.sock").symlink_to(daemon.path)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    certeus.connect(source="test").close()


# --- verdicts ------------------------------------------------------------------------------------


def test_wait_durable_returns_once_the_ticket_is_settled(
    producer: certeus.Producer, session: Session
) -> None:
    session.serve()
    last = producer.append_many("t", [b"1"] * 10)
    producer.wait_durable(last)
    assert producer.statistics().settled == 10


def test_wait_durable_gives_up_at_its_timeout_and_can_be_called_again(
    producer: certeus.Producer, session: Session
) -> None:
    ticket = producer.append("t", b"1")
    with pytest.raises(TimeoutError, match="wait again"):
        producer.wait_durable(ticket, timeout=0.001)
    session.accept(1)
    producer.wait_durable(ticket, timeout=0)


def test_a_ticket_that_was_never_given_is_an_error(producer: certeus.Producer) -> None:
    with pytest.raises(ValueError, match="never given"):
        producer.wait_durable(1)


def test_receipts_tell_each_verdict(producer: certeus.Producer, session: Session) -> None:
    producer.append_many("t", [b"1"] * 5)
    session.take(5)
    session.settle(
        Verdict("accepted", 100, 7),
        Verdict("accepted", 101, 7),
        Verdict("escalated", 102, 7),
        Verdict("duplicate", 55, 3),
        Verdict("rejected", 12, 0, "id-conflict"),
    )
    with pytest.raises(certeus.RejectedError):
        producer.wait_durable(5)
    receipt = certeus.Receipt
    assert [producer.receipt(ticket) for ticket in range(1, 6)] == [
        receipt(LOG_ID, 100, 7, certeus.Verdict.ACCEPTED, ""),
        receipt(LOG_ID, 101, 7, certeus.Verdict.ACCEPTED, ""),
        receipt(LOG_ID, 102, 7, certeus.Verdict.ESCALATED, ""),
        receipt(LOG_ID, 55, 3, certeus.Verdict.DUPLICATE, ""),
        receipt(LOG_ID, 12, 0, certeus.Verdict.REJECTED, "id-conflict"),
    ]
    statistics = producer.statistics()
    assert (statistics.appended, statistics.settled) == (5, 5)
    assert (statistics.accepted, statistics.escalated) == (2, 1)
    assert (statistics.duplicates, statistics.rejected) == (1, 1)


def test_a_receipt_is_not_there_before_its_ticket_is_settled(
    producer: certeus.Producer, session: Session
) -> None:
    ticket = producer.append("t", b"1")
    with pytest.raises(LookupError, match="wait_durable"):
        producer.receipt(ticket)


def test_each_rejection_is_raised_once_by_the_wait_that_covers_it(
    producer: certeus.Producer, session: Session
) -> None:
    producer.append_many("t", [b"1"] * 4)
    session.take(4)
    session.settle(Verdict(seq=1), REJECTED, Verdict(seq=2), REJECTED)
    producer.wait_durable(1)
    with pytest.raises(certeus.RejectedError, match=r"ticket 2.*invalid-json") as caught:
        producer.wait_durable(3)
    assert caught.value.rejections == (certeus.Rejection(2, "invalid-json", 0),)
    producer.wait_durable(3)
    with pytest.raises(certeus.RejectedError) as caught:
        producer.wait_durable(4)
    assert [rejection.ticket for rejection in caught.value.rejections] == [4]
    producer.wait_durable(4)


def test_a_rejection_that_nobody_waited_for_is_raised_by_close(
    producer: certeus.Producer, session: Session
) -> None:
    producer.append("t", b"{")
    session.take(1)
    session.settle(REJECTED)
    with pytest.raises(certeus.RejectedError):
        producer.close()
    producer.close()


# --- ending --------------------------------------------------------------------------------------


def test_leaving_the_block_settles_everything_and_says_goodbye(daemon: FakeDaemon) -> None:
    with certeus.connect(daemon.path, source="test", ring_bytes=RING) as producer:
        session = daemon.session()
        session.serve()
        producer.append_many("t", [b"1"] * 100)
    session.halt()
    assert session.received() == b'{"goodbye":true}'
    assert session.received() == b""
    assert producer.statistics().accepted == 100


def test_close_in_vain_raises_in_doubt_with_the_tickets_and_says_no_goodbye(
    producer: certeus.Producer, session: Session
) -> None:
    producer.append_many("t", [b"1"] * 3)
    session.accept(1)
    with pytest.raises(certeus.InDoubtError, match="2 to 3") as caught:
        producer.close(timeout=0.001)
    assert list(caught.value.tickets) == [2, 3]
    assert session.received() == b""


def test_a_closed_producer_says_so(producer: certeus.Producer, session: Session) -> None:
    producer.close()
    calls: list[Callable[[], object]] = [
        lambda: producer.append("t", b"1"),
        lambda: producer.append_nowait("t", {}),
        lambda: producer.append_many("t", [b"1"]),
        lambda: producer.wait_durable(0),
    ]
    for call in calls:
        with pytest.raises(certeus.ClosedError, match="connect anew"):
            call()
    producer.close()


def test_a_producer_that_is_forgotten_leaves_its_events_to_the_daemon(daemon: FakeDaemon) -> None:
    producer = certeus.connect(daemon.path, source="test", ring_bytes=RING)
    session = daemon.session()
    producer.append("t", b"1")
    del producer
    gc.collect()
    assert session.received() == b""
    assert len(session.take(1)) == 1


# --- reconnecting --------------------------------------------------------------------------------


def test_after_a_death_exactly_the_unsettled_is_offered_again_before_anything_new(
    daemon: FakeDaemon, producer: certeus.Producer, session: Session
) -> None:
    first = producer.append_many("t", [b"%d" % n for n in range(1, 11)])
    session.accept(4)
    producer.wait_durable(4)
    session.take(3)
    session.decide(5, Verdict(seq=5))  # durable, but nobody was told
    session.die()
    again = daemon.session()
    assert again.hello["birth_seq"] == 17
    assert again.hello["settled"] == 4
    assert again.hello["producer"] == session.hello["producer"]
    producer.append("t", b"11")
    events = again.take(6)
    assert [(event.ticket, event.data) for event in events] == [
        (n, b"%d" % n) for n in range(6, 12)
    ]
    again.settle(*(Verdict(seq=n) for n in range(6, 12)))
    producer.wait_durable(first + 1)
    assert producer.receipt(5).seq == 5
    statistics = producer.statistics()
    assert (statistics.reconnects, statistics.accepted) == (1, 11)
    assert statistics.resent in (5, 6)  # the eleventh may have come before the new ring


def test_events_are_offered_again_byte_for_byte(
    daemon: FakeDaemon, producer: certeus.Producer, session: Session
) -> None:
    for n in range(50):
        producer.append("t", b"x" * n, id=f"i{n}", content_type="a/b", extensions={"n": n})
    before = session.take(50)
    session.die()
    assert daemon.session().take(50) == before


def test_the_ring_goes_on_taking_events_without_a_daemon_and_then_says_that_it_is_full(
    daemon: FakeDaemon, producer: certeus.Producer, session: Session
) -> None:
    daemon.stop()
    with contextlib.suppress(certeus.RingFullError):
        while producer.append_nowait("t", b"x" * 1000) < 100:
            pass
    with pytest.raises(certeus.RingFullError, match="try again"):
        producer.append_nowait("t", b"x" * 1000)
    count = producer.statistics().appended
    assert 50 <= count <= 64
    daemon.start()
    daemon.session().serve()
    last = producer.append("t", b"y")
    producer.wait_durable(last)
    assert producer.statistics().accepted == count + 1


def test_an_idle_producer_reconnects_by_itself(
    daemon: FakeDaemon, producer: certeus.Producer, session: Session
) -> None:
    producer.append("t", b"1")
    session.die()
    assert daemon.session().take(1)[0].data == b"1"


def test_a_rejection_told_before_a_death_is_not_told_again(
    daemon: FakeDaemon, producer: certeus.Producer, session: Session
) -> None:
    producer.append_many("t", [b"1", b"2"])
    session.take(2)
    session.settle(REJECTED)
    with pytest.raises(certeus.RejectedError):
        producer.wait_durable(1)
    session.decide(2, REJECTED)
    session.die()
    daemon.session()
    with pytest.raises(certeus.RejectedError) as caught:
        producer.wait_durable(2)
    assert [rejection.ticket for rejection in caught.value.rejections] == [2]
    assert producer.statistics().rejected == 2


def test_a_verdict_that_was_read_before_settled_moved_is_final(
    daemon: FakeDaemon, producer: certeus.Producer, session: Session
) -> None:
    producer.append_many("t", [b"1", b"2"])
    session.take(2)
    session.decide(1, REJECTED)
    session.consumer.push(1, "rejected", reason="invalid-json")
    session.consumer.publish(0)  # the entry is out, `settled` is not: the worker dies between
    assert producer.statistics().rejected == 1
    session.die()
    again = daemon.session()
    assert again.hello["settled"] == 1
    assert [event.ticket for event in again.take(1)] == [2]


def test_a_transient_refusal_is_tried_again(
    daemon: FakeDaemon, producer: certeus.Producer, session: Session
) -> None:
    for reason in ("draining", "too-many-sessions", "hello-timeout", "ring-bytes"):
        daemon.refuse(reason)
    daemon.answer(None)
    daemon.answer(b"nonsense")
    session.end("draining")
    daemon.session().serve()
    producer.wait_durable(producer.append("t", b"1"))


@pytest.mark.parametrize("reason", ["uid-not-allowed", "source-not-allowed", "version"])
def test_a_later_refusal_that_is_final_is_raised_by_the_next_call(
    daemon: FakeDaemon, producer: certeus.Producer, session: Session, reason: str
) -> None:
    ticket = producer.append("t", b"1")
    daemon.refuse(reason)
    session.die()
    with pytest.raises(certeus.ConnectError, match="do something else") as caught:
        producer.wait_durable(ticket)
    assert caught.value.reason == reason
    with pytest.raises(certeus.ConnectError):
        producer.append("t", b"2")
    with pytest.raises(certeus.ConnectError):
        producer.close()


def test_a_producer_that_the_daemon_has_forgotten_is_in_doubt_and_never_guessed(
    daemon: FakeDaemon, producer: certeus.Producer, session: Session
) -> None:
    producer.append_many("t", [b"1"] * 3)
    session.accept(1)
    producer.wait_durable(1)
    daemon.refuse("producer-expired")
    session.die()
    with pytest.raises(certeus.InDoubtError) as caught:
        producer.wait_durable(3)
    assert list(caught.value.tickets) == [2, 3]


def test_expired_producer_with_nothing_in_doubt_goes_on_as_a_new_one(
    daemon: FakeDaemon, producer: certeus.Producer, session: Session
) -> None:
    producer.append_many("t", [b"1"] * 3)
    session.accept(3)
    producer.wait_durable(3)
    daemon.refuse("producer-expired")
    session.die()
    again = daemon.session()
    assert again.hello["producer"] != session.hello["producer"]
    assert (again.hello["birth_seq"], again.hello["settled"]) == ((1 << 62) - 1, 3)
    assert producer.append("t", b"4") == 4
    assert [event.ticket for event in again.accept(1)] == [4]
    producer.wait_durable(4)
    again.die()
    assert daemon.session().hello["birth_seq"] == 17
    assert producer.statistics().accepted == 4


SCRIBBLES: list[tuple[int, int]] = [
    (384, 99),  # settled beyond what was given
    (392, 5000),  # more verdicts than the ring holds
    (392, 1),  # an entry of zeros
    (128, 1 << 40),  # head beyond what was written
]


@pytest.mark.parametrize(("offset", "value"), SCRIBBLES)
def test_garbage_in_the_shared_page_ends_the_session_and_nothing_is_lost(
    daemon: FakeDaemon, producer: certeus.Producer, session: Session, offset: int, value: int
) -> None:
    ticket = producer.append("t", b"1")
    session.consumer.scribble(offset, value)
    with contextlib.suppress(TimeoutError):
        producer.wait_durable(ticket, timeout=0)
    again = daemon.session()
    assert again.accept(1)[0].data == b"1"
    producer.wait_durable(ticket)
    assert producer.statistics().last_loss


def test_garbage_over_the_socket_ends_the_session(
    daemon: FakeDaemon, producer: certeus.Producer, session: Session
) -> None:
    ticket = producer.append("t", b"1")
    session.say(b"\x02garbage")
    with contextlib.suppress(TimeoutError):
        producer.wait_durable(ticket, timeout=0.001)
    session.die()
    daemon.session().accept(1)
    producer.wait_durable(ticket)


def test_an_answer_that_cannot_be_true_is_not_believed(
    daemon: FakeDaemon, producer: certeus.Producer, session: Session
) -> None:
    ticket = producer.append("t", b"1")
    session.known.high = 7  # more than was ever given
    session.die()
    liar = daemon.session()
    assert liar.received() == b""
    liar.known.high = 0
    honest = daemon.session()
    while honest.settled:  # those that were welcomed meanwhile
        honest = daemon.session()
    honest.accept(1)
    producer.wait_durable(ticket)


def test_a_mark_below_what_was_read_is_not_believed_though_the_bytes_are_there_still(
    daemon: FakeDaemon, producer: certeus.Producer, session: Session
) -> None:
    producer.append_many("t", [b"1", b"2"])
    session.take(2)
    session.consumer.push(1, "accepted", 1, 1)
    session.consumer.publish(1)  # the worker dies before it gives the bytes back
    session.ring()
    producer.wait_durable(1)
    daemon.high_told = 0
    session.die()
    assert daemon.session().received() == b""
    daemon.high_told = None
    honest = daemon.session()
    while not honest.settled:  # those that were welcomed meanwhile
        honest = daemon.session()
    assert [event.ticket for event in honest.accept(1)] == [2]
    producer.wait_durable(2)
    assert producer.statistics().accepted == 2
