import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

import certeus
from support.fake_daemon import Event, FakeDaemon, Session, Verdict

RING = 64 * 1024


class InterruptedBySignal(Exception):
    pass


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


@pytest.fixture
def alarm() -> Iterator[None]:
    def handle(number: int, frame: FrameType | None) -> None:
        raise InterruptedBySignal

    before = signal.signal(signal.SIGALRM, handle)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def fill(producer: certeus.Producer) -> int:
    with contextlib.suppress(certeus.RingFullError):
        while producer.append_nowait("t", b"x" * 4000) < 100:
            pass
    count = producer.statistics().appended
    assert count == 16, "a sixteenth of the ring each"
    return count


def test_append_waits_while_the_ring_is_full(producer: certeus.Producer, session: Session) -> None:
    count = fill(producer)
    appended: list[int] = []
    thread = threading.Thread(target=lambda: appended.append(producer.append("t", b"y")))
    thread.start()
    session.accept(count)
    thread.join()
    assert appended == [count + 1]


def test_append_with_a_timeout_raises_ring_full_and_has_written_nothing(
    producer: certeus.Producer, session: Session
) -> None:
    count = fill(producer)
    with pytest.raises(certeus.RingFullError):
        producer.append("t", b"y" * 4000, timeout=0.001)
    with pytest.raises(certeus.RingFullError) as caught:
        producer.append_many("t", [b"y" * 4000], timeout=0.001)
    assert caught.value.last_ticket == count
    assert [event.ticket for event in session.take(count)][-1] == count


def test_a_signal_ends_every_wait(
    producer: certeus.Producer, session: Session, alarm: None
) -> None:
    last = fill(producer)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    with pytest.raises(InterruptedBySignal):
        producer.wait_durable(last)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    with pytest.raises(InterruptedBySignal):
        producer.append("t", b"x" * 4000)
    session.die()
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    with pytest.raises(InterruptedBySignal):
        producer.wait_durable(last)


def test_threads_share_a_producer_and_each_gets_its_own_tickets(
    daemon: FakeDaemon, producer: certeus.Producer, session: Session
) -> None:
    session.serve()
    tickets: list[list[int]] = [[] for _ in range(8)]

    def run(mine: list[int]) -> None:
        for _ in range(50):
            mine.append(producer.append("t", b"x" * 1000))
            producer.wait_durable(mine[-1])

    threads = [threading.Thread(target=run, args=(mine,)) for mine in tickets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ticket for mine in tickets for ticket in mine) == list(range(1, 401))
    assert all(mine == sorted(mine) for mine in tickets)
    assert producer.statistics().accepted == 400


def test_threads_keep_their_order_through_deaths_of_the_daemon(
    daemon: FakeDaemon, producer: certeus.Producer, session: Session
) -> None:
    seen: list[tuple[str, int]] = []

    def judge(event: Event) -> Verdict:
        seen.append((event.attributes["type"], int(event.attributes["id"])))
        return Verdict(seq=len(seen))

    daemon.judge, daemon.serving = judge, True
    session.serve(judge)

    def run(name: str) -> None:
        for n in range(300):
            producer.append(name, b"x" * 200, id=str(n))
        producer.wait_durable(producer.statistics().appended)

    threads = [threading.Thread(target=run, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for _ in range(5):
        session.die()
        session = daemon.session()
    for thread in threads:
        thread.join()
    for name in "abcd":
        assert [n for who, n in seen if who == name] == list(range(300))
    assert producer.statistics().accepted == 1200


def test_close_in_one_thread_ends_the_waits_of_the_others(
    producer: certeus.Producer, session: Session
) -> None:
    count = fill(producer)
    errors: list[Exception] = []

    def append() -> None:
        try:
            producer.append("t", b"x" * 4000)
        except certeus.Error as error:
            errors.append(error)

    thread = threading.Thread(target=append)
    thread.start()
    closer = threading.Thread(target=producer.close)
    closer.start()
    thread.join()
    session.accept(count)
    closer.join()
    assert [type(error) for error in errors] == [certeus.ClosedError]


def child_says(function: Callable[[], object]) -> str:
    """What `function` gives in a forked child."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        with contextlib.suppress(BaseException):
            os.write(writer, str(function()).encode())
            code = 0
        os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    assert os.waitpid(pid, 0)[1] == 0
    return said


def errors_of_every_call(producer: certeus.Producer) -> list[str]:
    names: list[str] = []
    calls: list[Callable[[], object]] = [
        lambda: producer.append("t", b"1"),
        lambda: producer.append_nowait("t", {}),
        lambda: producer.append_many("t", [b"1", b"2"]),
        lambda: producer.wait_durable(1),
        producer.close,
    ]
    for call in calls:
        try:
            call()
        except certeus.Error as error:
            names.append(type(error).__name__)
    producer.statistics()
    return names


def test_a_forked_child_cannot_use_the_producer_and_the_parent_goes_on(
    producer: certeus.Producer, session: Session
) -> None:
    producer.append("t", b"1")
    assert child_says(lambda: errors_of_every_call(producer)) == str(["ForkedError"] * 5)
    producer.append("t", b"2")
    assert [event.data for event in session.accept(2)] == [b"1", b"2"]
    producer.wait_durable(2)


def test_a_child_does_not_keep_the_session_open(
    producer: certeus.Producer, session: Session
) -> None:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        os.read(reader, 1)  # lives until the parent has seen the end of the session
        os._exit(0)
    os.close(reader)
    producer.close()
    assert session.received() == b'{"goodbye":true}'
    assert session.received() == b""
    os.close(writer)
    os.waitpid(pid, 0)


def test_a_child_can_connect_anew(daemon: FakeDaemon, producer: certeus.Producer) -> None:
    def child() -> str:
        with certeus.connect(daemon.path, source="child", ring_bytes=RING) as mine:
            return str(mine.append("t", b"1"))

    daemon.serving = True
    assert child_says(child) == "1"


def test_a_fork_while_another_thread_holds_the_lock_does_not_hang_the_child(
    producer: certeus.Producer, session: Session
) -> None:
    ticket = producer.append("t", b"1")
    waiting = threading.Thread(target=producer.wait_durable, args=(ticket,))
    waiting.start()
    assert child_says(lambda: errors_of_every_call(producer)) == str(["ForkedError"] * 5)
    session.accept(1)
    waiting.join()


def mappings_that_no_child_gets() -> int:
    text = Path("/proc/self/smaps").read_text()
    return sum(line.startswith("VmFlags:") and " dc" in line for line in text.splitlines())


def test_no_child_gets_the_memory_of_a_ring(daemon: FakeDaemon) -> None:
    before = mappings_that_no_child_gets()
    with certeus.connect(daemon.path, source="test", ring_bytes=RING):
        assert mappings_that_no_child_gets() == before + 2, "P and C"
