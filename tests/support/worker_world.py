"""The Python of one worker on real sockets, with a kernel that the test plays."""

import json
import os
import select
import socket
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from certeusd import logs
from certeusd.config import IngestSection, LimitsSection
from certeusd.preparation import Outcome
from certeusd.rule import Rule
from certeusd.worker.audit import Audit
from certeusd.worker.clients import Clients
from certeusd.worker.kernel import Event, Seen
from certeusd.worker.ledger import Caps, Ledger

UUID = bytes(range(16))
HELLO = {
    "certeus": 1,
    "producer": "ab" * 16,
    "source": "check",
    "ring_bytes": 1 << 16,
    "birth_seq": None,
    "settled": 0,
    "pid": 1,
}


@dataclass
class FakeKernel:
    """Watches descriptors for real, and does with sessions what the test says."""

    watched: set[int] = field(default_factory=set[int])
    sessions: dict[int, dict[str, object]] = field(default_factory=dict[int, dict[str, object]])
    said: list[tuple[object, ...]] = field(default_factory=list[tuple[object, ...]])
    events: list[Event] = field(default_factory=list[Event])
    timeouts: list[int] = field(default_factory=list[int])
    next_slot: int = 0
    fail: OSError | None = None

    def watch(self, fd: int, /) -> None:
        assert fd not in self.watched
        self.watched.add(fd)

    def unwatch(self, fd: int, /) -> None:
        self.watched.remove(fd)

    def add_session(self, **said: object) -> int:
        if self.fail is not None:
            raise self.fail
        self.next_slot += 1
        self.sessions[self.next_slot] = said
        return self.next_slot

    def end_session(self, slot: int, clean: bool, /) -> None:
        if self.sessions.pop(slot, None) is not None:
            self.said.append(("end", slot, clean))
            self.events.append(("closed", slot))

    def attach(self, *said: int) -> None:
        assert all(os.fstat(fd) for fd in (said[0], *said[3:]))
        self.said.append(("attach", said[1], said[2]))

    def detach(self) -> None:
        self.said.append(("detach",))

    def drain(self) -> None:
        self.said.append(("drain",))

    def let_go(self, slots: list[int], /) -> None:
        self.said.append(("let_go", *slots))

    def hand_over(self) -> int:
        self.said.append(("hand_over",))
        return 1

    def prepare(self, wishes: dict[str, bool], /) -> None:
        raise AssertionError("nothing is wished")

    def prepared(self) -> list[Outcome]:
        raise AssertionError("nothing is wished")

    def in_flight(self) -> int:
        return 0

    def session_count(self) -> int:
        return len(self.sessions)

    def seen(self, first: int, count: int, /) -> tuple[list[Seen], int | None]:
        raise AssertionError("nobody asks")

    def run(self, timeout_ms: int, /) -> list[Event]:
        self.timeouts.append(timeout_ms)
        events, self.events = self.events, []
        ready, _, _ = select.select(list(self.watched), [], [], 0)
        return [*events, *(("readable", fd) for fd in ready)]

    def free(self, slot: int, event: Event) -> None:
        """The kernel ends a session by itself."""
        del self.sessions[slot]
        self.events.append(event)


@dataclass
class Counters:
    refusals: int = 0
    workers: int = 1
    others: list[tuple[int, float]] = field(default_factory=list[tuple[int, float]])

    def refused(self) -> None:
        self.refusals += 1

    def sessions(self) -> list[tuple[int, float]]:
        return self.others

    def share(self, workers: int) -> None:
        self.workers = workers


class World:
    """One worker's Python, with a clock that the test moves."""

    def __init__(self, path: Path, **limits: int) -> None:
        self.path = str(path / "ingest.sock")
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self.listener.bind(self.path)
        self.listener.listen()
        self.kernel = FakeKernel()
        self.counters = Counters()
        self.now = 100.0
        section = IngestSection(uids=(os.getuid(),), sources=("check", "sensor/*"), tenant="shop")
        limit = LimitsSection(**limits)
        self.clients = Clients(
            self.kernel,
            [(self.listener, Rule.of(section))],
            limits=limit,
            ledger=Ledger(Caps.of(limit, 1, 0)),
            audit=Audit(logs.get_logger()),
            counters=self.counters,
            clock=lambda: self.now,
        )
        self.clients.accept_clients(True)

    def turn(self) -> None:
        """What the loop does, until nothing comes any more."""
        while events := self.kernel.run(0):
            for event in events:
                match event:
                    case ("readable", int(fd)):
                        assert self.clients.on_readable(fd)
                    case ("closed", int(slot)):
                        self.clients.on_closed(slot)
                    case ("ended", int(slot), str(reason)):
                        self.clients.on_ended(slot, reason)
                    case ("refused", int(slot), str(reason)):
                        self.clients.on_refused(slot, reason)
                    case ("welcomed", int(slot), int(birth), int(high), bytes(uuid), int(number)):
                        self.clients.on_welcomed(slot, birth, high, uuid, number)
                    case _:
                        raise AssertionError(event)
            self.clients.end_round()
        self.clients.end_round()

    def connect(self, **changes: object) -> socket.socket:
        return self.connect_saying(json.dumps(HELLO | changes).encode())

    def connect_saying(self, packet: bytes) -> socket.socket:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        client.connect(self.path)
        client.setblocking(False)
        if packet:
            client.send(packet)
        self.turn()
        return client

    def live(self) -> tuple[socket.socket, int]:
        client = self.connect()
        slot = self.kernel.next_slot
        self.kernel.events.append(("welcomed", slot, 17, 0, UUID, 4))
        self.turn()
        _, descriptors = answer(client)
        for descriptor in descriptors:
            os.close(descriptor)
        return client, slot


def answer(client: socket.socket) -> tuple[dict[str, object], list[int]]:
    packet, descriptors, _, _ = socket.recv_fds(client, 4096, 3)
    return json.loads(packet), descriptors


def is_closed(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False


@contextmanager
def world_at(path: Path) -> Generator[World]:
    """A world that has to leave nothing behind."""
    before = len(os.listdir("/proc/self/fd"))
    world = World(path)
    yield world
    world.clients.end_all()
    world.clients.accept_clients(False)
    world.listener.close()
    assert world.kernel.watched == set()
    assert len(os.listdir("/proc/self/fd")) == before, "no descriptor is left"
