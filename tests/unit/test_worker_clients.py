"""Clients of one worker on real sockets, with a kernel that the test plays."""

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from certeusd import logs
from certeusd.config import IngestSection, LimitsSection
from certeusd.rule import Rule
from certeusd.worker.audit import Audit
from certeusd.worker.clients import Clients
from certeusd.worker.ledger import Caps, Ledger
from support.worker_world import (
    HELLO,
    UUID,
    FakeKernel,
    World,
    answer,
    is_closed,
    world_at,
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with world_at(tmp_path) as world:
        yield world


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
            ledger=Ledger(Caps.of(limits, 1, 0)),
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
    refused = answer(silent[0])[0]
    assert refused["refused"] == "draining", "a first hello is said again"
    assert refused["what"] == "too many connections wait for a hello"
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


def test_limits_follow_the_number_of_workers(tmp_path: Path) -> None:
    world = World(tmp_path, sessions_max=4, sessions_per_uid_max=4)
    world.clients.accept_clients(True)
    held = [world.live()[0] for _ in range(2)]
    assert world.clients.share(2, 1) == []
    with world.connect() as client:
        assert answer(client)[0]["refused"] == "too-many-sessions"
    assert world.clients.share(1, 0) == []
    held += [world.live()[0] for _ in range(2)]
    assert world.clients.share(3, 0) == [3, 4], "who came last"
    assert world.clients.share(3, 1) == [2, 3, 4]
    for client in held:
        client.close()
    world.clients.end_all()
    world.listener.close()
