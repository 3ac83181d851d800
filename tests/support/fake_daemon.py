"""A daemon in the test's own process: real sockets, real memfds with real seals, no log.

A thread answers hellos; what becomes of the tickets is the test's to say, step by step, or a
session's `serve` does it. What it calls durable survives the death of a session, as in a log.
"""

import contextlib
import fcntl
import json
import os
import queue
import select
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import NamedTuple, Self, cast

from certeus._native import C_BYTES, PAGE_BYTES, VERSION, Consumer

PATIENCE_S = 20.0
F_SEAL_FUTURE_WRITE = 0x10
TAGS = ("type", "id", "subject", "time", "source", "dataschema", "content_type", "extensions")
LOG_ID = "0d9ff3cc-9bd5-4d2c-9be3-0f6b2f5a3f10"


class Verdict(NamedTuple):
    verdict: str = "accepted"
    seq: int = 0
    group: int = 0
    reason: str = ""


@dataclass
class Producer:
    """What the fake knows of a producer as durable: its mark, and the verdict of each ticket."""

    high: int = 0
    verdicts: dict[int, Verdict] = field(default_factory=dict[int, Verdict])


class Event(NamedTuple):
    ticket: int
    attributes: dict[str, str]
    data: bytes
    opaque: bool


def decode(ticket: int, payload: bytes) -> Event:
    """Parse the payload of a client frame (`ipc/src/record.rs`)."""
    length = int.from_bytes(payload[:4], "little")
    rest, data = payload[8 : 8 + length], payload[8 + length :]
    attributes: dict[str, str] = {}
    while rest:
        size = int.from_bytes(rest[1:3], "little")
        attributes[TAGS[rest[0] - 1]] = rest[3 : 3 + size].decode()
        rest = rest[3 + size :]
    return Event(ticket, attributes, data, payload[4] == 1)


class Session:
    """The daemon's side of one session."""

    def __init__(self, sock: socket.socket, hello: dict[str, object], known: Producer) -> None:
        self.socket = sock
        self.hello = hello
        self.known = known
        self.ring_bytes = cast("int", hello["ring_bytes"])
        self.settled = cast("int", hello["settled"])
        self._pending: list[Event] = []
        self._thread: threading.Thread | None = None
        self._stop = os.eventfd(0)
        self.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.p = _memory("certeus-p", PAGE_BYTES + self.ring_bytes)
        self.c = _memory("certeus-c", C_BYTES)
        head = b"certeus1" + VERSION.to_bytes(8, "little") + self.ring_bytes.to_bytes(8, "little")
        os.pwrite(self.p, head, 0)
        os.pwrite(self.p, b"\xff" * 16, 256)  # no bell is wanted yet
        self.consumer = Consumer(self.p, self.c, self.ring_bytes)
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
        fcntl.fcntl(self.p, fcntl.F_ADD_SEALS, seals | fcntl.F_SEAL_SEAL)
        fcntl.fcntl(self.c, fcntl.F_ADD_SEALS, seals | F_SEAL_FUTURE_WRITE | fcntl.F_SEAL_SEAL)
        self.publish(max(known.high, self.settled))

    def take(self, count: int) -> list[Event]:
        """The next `count` events, waiting for them as the real worker does."""
        while len(self._pending) < count:
            self._read()
            if len(self._pending) < count and self.consumer.prepare_sleep():
                assert _readable(self.bell), "no doorbell"
                self.consumer.woke()
        taken, self._pending = self._pending[:count], self._pending[count:]
        return taken

    def decide(self, ticket: int, verdict: Verdict) -> None:
        """Make a verdict durable without telling anybody."""
        assert ticket == self.known.high + 1
        self.known.verdicts[ticket] = verdict
        self.known.high = ticket

    def publish(self, settled: int) -> None:
        """Tell the client all verdicts up to `settled`, release its bytes, ring its bell."""
        for ticket in range(self.settled + 1, settled + 1):
            verdict = self.known.verdicts.get(ticket)
            if verdict is not None:
                self.consumer.push(
                    ticket, verdict.verdict, verdict.seq, verdict.group, 1, verdict.reason
                )
        self.settled = settled
        self.consumer.publish(settled)
        if self.consumer.release(settled):
            self.ring()

    def settle(self, *verdicts: Verdict) -> None:
        """Decide and publish the next tickets."""
        for verdict in verdicts:
            self.decide(self.known.high + 1, verdict)
        self.publish(self.known.high)

    def accept(self, count: int) -> list[Event]:
        """Take and accept the next `count` events."""
        events = self.take(count)
        high = self.known.high
        self.settle(*(Verdict(seq=high + 1 + n, group=1) for n in range(count)))
        return events

    def ring(self) -> None:
        with contextlib.suppress(OSError):
            self.socket.send(b"\x01")

    def say(self, packet: bytes) -> None:
        self.socket.send(packet)

    def end(self, reason: str) -> None:
        self.say(json.dumps({"ended": reason, "what": "because the test says so"}).encode())
        self.die()

    def die(self) -> None:
        """As when the worker is killed: the socket closes, the memory stays as it is."""
        self.halt()
        self.socket.close()

    def serve(self, judge: Callable[[Event], Verdict] | None = None) -> None:
        """Decide everything that comes, in a thread, until the session dies."""
        self._thread = threading.Thread(target=self._serve, args=(judge,))
        self._thread.start()

    def halt(self) -> None:
        if self._thread is not None:
            os.eventfd_write(self._stop, 1)
            self._thread.join()
            self._thread = None

    def received(self) -> bytes:
        """What the client sends next over the socket; empty when it has closed."""
        assert _readable(self.socket.fileno()), "nothing came"
        return self.socket.recv(4096)

    def close(self) -> None:
        self.die()
        for descriptor in (self.p, self.c, self.bell, self._stop):
            os.close(descriptor)

    def _read(self) -> None:
        self._pending += [decode(ticket, payload) for ticket, payload in self.consumer.read()]

    def _serve(self, judge: Callable[[Event], Verdict] | None) -> None:
        poller = select.poll()
        for descriptor in (self._stop, self.bell):
            poller.register(descriptor, select.POLLIN)
        while True:
            self._read()
            events, self._pending = self._pending[:500], self._pending[500:]
            for event in events:
                accepted = Verdict(seq=self.known.high + 1, group=1)
                self.decide(event.ticket, accepted if judge is None else judge(event))
            if events:
                self.publish(self.known.high)
                continue
            ready = dict(poller.poll(None if self.consumer.prepare_sleep() else 0))
            self.consumer.woke()
            if self._stop in ready:
                return
            if self.bell in ready:
                os.eventfd_read(self.bell)


class FakeDaemon:
    """Listens on `path`; each welcomed session is to be had from `session()`, once."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.producers: dict[str, Producer] = {}
        self.answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self.event_bytes_max = 1024 * 1024
        self.serving = False
        self.judge: Callable[[Event], Verdict] | None = None
        self._sessions: queue.SimpleQueue[Session] = queue.SimpleQueue()
        self._all: list[Session] = []
        self._failures: list[BaseException] = []
        self.start()
        self.high_told: int | None = None
        """Instead of the mark that is true."""

    def start(self) -> None:
        """Listen (again)."""
        self._stop = os.eventfd(0)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        self._listener.bind(self.path)
        self._listener.listen(64)
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def stop(self) -> None:
        """Die: nobody listens, every session's socket is closed."""
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        self._listener.close()
        os.close(self._stop)
        os.unlink(self.path)
        for session in self._all:
            session.die()

    def session(self) -> Session:
        """The next session that was welcomed."""
        return self._sessions.get(timeout=PATIENCE_S)

    def refuse(self, reason: str, *, times: int = 1) -> None:
        """Answer the next hellos with a refusal."""
        for _ in range(times):
            self.answer({"refused": reason, "what": "not now", "next": "do something else"})

    def answer(self, message: dict[str, object] | bytes | None) -> None:
        """Answer the next hello with this, or with nothing but a closed connection."""
        packet = json.dumps(message).encode() if isinstance(message, dict) else message
        self.answers.put(packet)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if os.path.exists(self.path):
            self.stop()
        for session in self._all:
            session.close()
        if self._failures:
            raise self._failures[0]

    def _accept(self) -> None:
        poller = select.poll()
        for descriptor in (self._stop, self._listener.fileno()):
            poller.register(descriptor, select.POLLIN)
        while True:
            if self._stop in dict(poller.poll()):
                return
            sock, _ = self._listener.accept()
            try:
                self._greet(sock)
            except OSError:
                sock.close()  # the client has gone meanwhile
            except Exception as error:
                self._failures.append(error)
                sock.close()

    def _greet(self, sock: socket.socket) -> None:
        if not _readable(sock.fileno()):
            sock.close()
            return
        packet = sock.recv(4096)
        if not packet:
            sock.close()
            return
        hello = cast("dict[str, object]", json.loads(packet))
        with contextlib.suppress(queue.Empty):
            answer = self.answers.get_nowait()
            if answer is not None:
                sock.send(answer)
            sock.close()
            return
        known = self.producers.setdefault(cast("str", hello["producer"]), Producer())
        known.high = max(known.high, cast("int", hello["settled"]))
        session = Session(sock, hello, known)
        self._all.append(session)
        welcome: dict[str, object] = {
            "welcome": True,
            "session": len(self._all),
            "log_id": LOG_ID,
            "birth_seq": 17,
            "high": session.settled if self.high_told is None else self.high_told,
            "producer_no": 1,
            "event_bytes_max": self.event_bytes_max,
            "depth_max": 64,
        }
        descriptors = [session.p, session.c, session.bell]
        socket.send_fds(sock, [json.dumps(welcome).encode()], descriptors)
        if self.serving:
            session.serve(self.judge)
        self._sessions.put(session)


def _memory(name: str, size: int) -> int:
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.posix_fallocate(descriptor, 0, size)
    return descriptor


def _readable(descriptor: int) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(PATIENCE_S * 1000))
