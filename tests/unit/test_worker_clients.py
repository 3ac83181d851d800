"""Clients and loop on real sockets, with a kernel and a supervisor that the test plays."""

import json
import os
import select
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from certeusd import channel as channels
from certeusd import logs
from certeusd.channel import Attach, Detach, Drain, Progress, Ready
from certeusd.config import IngestSection, LimitsSection, MemorySection
from certeusd.preparation import Outcome, Preparation
from certeusd.rule import Rule
from certeusd.worker.audit import Audit
from certeusd.worker.clients import Clients
from certeusd.worker.kernel import Event, Seen
from certeusd.worker.ledger import Caps, Ledger
from certeusd.worker.service import Service

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

    def refused(self) -> None:
        self.refusals += 1

    def sessions(self) -> list[tuple[int, float]]:
        return []


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
            ledger=Ledger(Caps.of(limit, 1)),
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


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    before = len(os.listdir("/proc/self/fd"))
    world = World(tmp_path)
    yield world
    world.clients.end_all()
    world.clients.accept_clients(False)
    world.listener.close()
    assert world.kernel.watched == set()
    assert len(os.listdir("/proc/self/fd")) == before, "no descriptor is left"


def test_descriptors_are_sent_only_after_the_welcome(world: World) -> None:
    with world.connect(source="sensor/1", birth_seq=3, settled=2) as client:
        assert not is_closed(client)
        (said,) = world.kernel.sessions.values()
        assert (said["uid"], said["tenant"], said["source"]) == (os.getuid(), "shop", "sensor/1")
        assert (said["birth_seq"], said["settled"]) == (3, 2)
        assert said["producer"] == b"\xab" * 16
        assert said["allowed_sources"] == ["check", "sensor/*"]
        world.kernel.events.append(("welcomed", 1, 3, 5, UUID, 4))
        world.turn()
        message, descriptors = answer(client)
        assert message["welcome"] is True
        assert (message["birth_seq"], message["high"], message["producer_no"]) == (3, 5, 4)
        p, c, e = descriptors
        assert os.fstat(p).st_size == 4096 + (1 << 16)
        os.eventfd_write(e, 1)
        with pytest.raises(PermissionError):
            os.pwrite(c, b"x", 0)
        for descriptor in descriptors:
            os.close(descriptor)


def test_the_live_are_served_between_any_two_hellos(world: World) -> None:
    clients = [world.connect_saying(b"") for _ in range(3)]
    for client in clients:
        client.send(json.dumps(HELLO).encode())
    for made in (1, 2, 3):
        for event in world.kernel.run(0):
            assert world.clients.on_readable(int(event[1]))
        world.clients.end_round()
        assert len(world.kernel.sessions) == made
    for client in clients:
        client.close()
    world.turn()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"source": "theirs"}, "source-not-allowed"),
        ({"certeus": 9}, "version"),
        ({"producer": "x"}, "malformed-hello"),
        ({"ring_bytes": 7}, "ring-bytes"),
    ],
)
def test_a_refused_hello_is_told_why(world: World, changes: dict[str, object], reason: str) -> None:
    with world.connect(**changes) as client:
        message, _ = answer(client)
        assert message["refused"] == reason
        assert is_closed(client)
    assert world.counters.refusals == 1
    assert world.kernel.sessions == {}


def test_a_user_who_is_not_allowed_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.listener.close()
    nobody = Rule.of(IngestSection(uids=(os.getuid() + 1,)))
    path = str(tmp_path / "other.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as listener:
        listener.bind(path)
        listener.listen()
        limits = LimitsSection()
        world.path, world.kernel = path, FakeKernel()
        world.clients = Clients(
            world.kernel,
            [(listener, nobody)],
            limits=limits,
            ledger=Ledger(Caps.of(limits, 1)),
            audit=Audit(logs.get_logger()),
            counters=world.counters,
            clock=lambda: world.now,
        )
        world.clients.accept_clients(True)
        with world.connect() as client:
            assert answer(client)[0]["refused"] == "uid-not-allowed"


def test_a_silent_client_is_refused_after_a_second(world: World) -> None:
    with world.connect_saying(b"") as client, world.connect_saying(b""):
        world.now += 0.999
        world.turn()
        assert not is_closed(client)
        assert world.clients.next_deadline() == 101.0
        world.now += 0.001
        world.turn()
        assert answer(client)[0]["refused"] == "hello-timeout"
        assert is_closed(client)
    assert world.clients.next_deadline() is None


def test_a_hello_that_is_too_long_is_malformed(world: World) -> None:
    with world.connect_saying(b" " * 5000) as client:
        assert answer(client)[0]["refused"] == "malformed-hello"


def test_descriptors_of_a_client_are_never_taken(world: World) -> None:
    with world.connect_saying(b"") as client:
        before = len(os.listdir("/proc/self/fd"))
        socket.send_fds(client, [json.dumps(HELLO).encode()], [0, 1, 2])
        world.turn()
        assert len(os.listdir("/proc/self/fd")) == before + 3, "P, C and E alone"


def test_too_many_silent_clients_push_out_the_oldest(world: World) -> None:
    silent = [world.connect_saying(b"") for _ in range(65)]
    assert answer(silent[0])[0]["refused"] == "too-many-sessions"
    assert not any(is_closed(client) for client in silent[1:])
    for client in silent:
        client.close()
    world.turn()


def test_the_end_of_a_client_ends_its_session(world: World) -> None:
    client, slot = world.live()
    client.close()
    world.turn()
    assert world.kernel.said == [("end", slot, False)]
    assert world.clients.sessions == 0


def test_a_goodbye_is_clean(world: World) -> None:
    client, slot = world.live()
    with client:
        client.send(b'{"goodbye":true}')
        world.turn()
        assert is_closed(client)
    assert world.kernel.said == [("end", slot, True)]


def test_nonsense_on_the_socket_ends_the_session(world: World) -> None:
    client, slot = world.live()
    with client:
        client.send(b"nonsense")
        world.turn()
        assert answer(client)[0]["ended"] == "malformed-message"
        assert is_closed(client)
    assert world.kernel.said == [("end", slot, False)]


def test_a_client_is_told_why_the_kernel_ended_its_session(world: World) -> None:
    client, slot = world.live()
    with client:
        world.kernel.free(slot, ("ended", slot, "ring-ticket"))
        world.turn()
        assert answer(client)[0]["ended"] == "ring-ticket"
        assert is_closed(client)
    assert world.clients.sessions == 0


def test_a_client_is_told_that_the_log_writer_refused_it(world: World) -> None:
    with world.connect(birth_seq=1, settled=1) as client:
        world.kernel.free(1, ("refused", 1, "producer-expired"))
        world.turn()
        assert answer(client)[0]["refused"] == "producer-expired"
    assert world.clients.sessions == 0


def test_a_client_that_goes_before_its_welcome_gets_nothing(world: World) -> None:
    world.connect().close()
    world.kernel.events.append(("welcomed", 1, 17, 0, UUID, 4))
    world.turn()
    assert world.kernel.said == [("end", 1, False)]


def test_rings_count_until_the_kernel_has_freed_them(tmp_path: Path) -> None:
    world = World(tmp_path, sessions_per_uid_max=1)
    client, slot = world.live()
    with client, world.connect() as second:
        assert answer(second)[0]["refused"] == "too-many-sessions"
    world.kernel.sessions.clear()  # The kernel is still busy with what the client left.
    world.turn()
    with world.connect() as third:
        assert answer(third)[0]["refused"] == "too-many-sessions"
    world.clients.on_closed(slot)
    with world.connect() as fourth:
        assert not is_closed(fourth)
    world.turn()
    world.listener.close()


def test_no_memory_for_a_ring_is_a_refusal(world: World) -> None:
    world.kernel.fail = OSError(12, "Cannot allocate memory")
    with world.connect() as client:
        assert answer(client)[0]["refused"] == "ring-bytes"
    assert world.clients.sessions == 0


# --- the loop ------------------------------------------------------------------------------------


class Loop:
    """A worker's loop and its supervisor."""

    def __init__(self, world: World) -> None:
        self.supervisor, end = channels.pair()
        self.channel = channels.Channel(end)
        self.kernel = world.kernel
        world.clients.accept_clients(False)
        self.service = Service(
            world.kernel,
            world.clients,
            self.channel,
            world.counters,
            index=0,
            drain_timeout_ms=5000,
            logger=logs.get_logger(),
            preparation=Preparation(world.kernel, MemorySection(), logs.get_logger()),
            clock=lambda: world.now,
        )

    def script(self, step: Callable[[list[Event]], None]) -> None:
        """Let `step` look at, and add to, what each run of the kernel says."""
        run = self.kernel.run

        def scripted(timeout_ms: int, /) -> list[Event]:
            events = run(timeout_ms)
            step(events)
            return events

        setattr(self.kernel, "run", scripted)  # noqa: B010 - a method, to the type checkers

    def close(self) -> None:
        self.kernel.watched.discard(self.channel.fileno())
        self.channel.close()
        self.supervisor.close()


@pytest.fixture
def loop(world: World) -> Iterator[Loop]:
    loop = Loop(world)
    yield loop
    loop.close()


def test_the_loop_takes_pairs_and_ends_with_the_supervisor(world: World, loop: Loop) -> None:
    bells = [os.eventfd(0) for _ in range(3)]
    before = len(os.listdir("/proc/self/fd"))
    loop.supervisor.send(Attach(0, 4096, 8192), bells)
    loop.supervisor.send(Detach(0))
    loop.supervisor.close()
    assert loop.service.run() == 0
    assert world.kernel.said == [("attach", 4096, 8192), ("detach",)]
    assert len(os.listdir("/proc/self/fd")) == before - 1, "lent to the kernel, then closed"
    for bell in bells:
        os.close(bell)


def test_the_loop_says_ready_and_once_that_it_served(world: World, loop: Loop) -> None:
    def step(events: list[Event]) -> None:
        if world.kernel.sessions and not world.kernel.said:
            world.kernel.said.append(("welcome",))
            events.append(("welcomed", 1, 17, 0, UUID, 4))
            loop.supervisor.send(Drain())
        elif ("drain",) in world.kernel.said and world.kernel.sessions:
            world.kernel.free(1, ("ended", 1, "draining"))

    loop.script(step)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.connect(world.path)
        client.send(json.dumps(HELLO).encode())
        assert loop.service.run() == 0
        said = [loop.supervisor.receive(), loop.supervisor.receive()]
        assert said == [(Ready(), []), (Progress(), [])]
        message, descriptors = answer(client)
        assert message["welcome"] is True
        assert answer(client)[0]["ended"] == "draining"
        for descriptor in descriptors:
            os.close(descriptor)


def test_draining_takes_no_longer_than_its_time(world: World, loop: Loop) -> None:
    world.clients.accept_clients(True)
    client, _ = world.live()
    loop.supervisor.send(Drain())

    def step(_: list[Event]) -> None:
        world.now += 1.0 if ("drain",) in world.kernel.said else 0.0

    loop.script(step)
    assert loop.service.run() == 0
    assert world.now == 105.0
    with client:
        assert answer(client)[0]["ended"] == "draining"


def test_the_kernel_is_left_alone_until_a_hello_is_due(world: World, loop: Loop) -> None:
    world.clients.accept_clients(True)
    with world.connect_saying(b""):
        world.now += 0.75
        loop.supervisor.close()
        assert loop.service.run() == 0
    assert world.kernel.timeouts[-1] == 251
