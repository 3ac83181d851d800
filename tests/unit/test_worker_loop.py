"""The loop of one worker, with a kernel and a supervisor that the test plays."""

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from certeusd import channel as channels
from certeusd import logs
from certeusd.channel import Attach, Detach, Drain, HandOver, Progress, Ready, Share
from certeusd.config import MemorySection
from certeusd.preparation import Preparation
from certeusd.worker.kernel import Event
from certeusd.worker.service import Service
from support.worker_world import (
    HELLO,
    UUID,
    World,
    answer,
    world_at,
)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with world_at(tmp_path) as world:
        yield world


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


def test_who_shares_with_more_workers_lets_go_what_is_above_its_part(tmp_path: Path) -> None:
    world = World(tmp_path, sessions_per_uid_max=3)
    clients = [world.live()[0] for _ in range(3)]
    loop = Loop(world)
    loop.supervisor.send(Share(2))

    def step(_: list[Event]) -> None:
        if world.counters.workers == 2:
            loop.supervisor.close()

    loop.script(step)
    assert loop.service.run() == 0
    assert world.kernel.said == [("let_go", 3)], "worker 0 has 2 of 3"
    for client in clients:
        client.close()
    loop.close()
    world.listener.close()


def test_who_shares_with_more_workers_leaves_them_whom_it_hands_over(
    world: World, loop: Loop
) -> None:
    world.clients.accept_clients(True)
    client, _ = world.live()
    world.counters.others = [(0, 0.0)]
    accepting = list[bool]()
    loop.supervisor.send(Share(2))
    loop.supervisor.send(HandOver())

    def step(_: list[Event]) -> None:
        if ("hand_over",) not in world.kernel.said:
            return
        accepting.append(world.listener.fileno() in world.kernel.watched)
        world.now += 1.0
        if len(accepting) == 8:
            loop.supervisor.close()

    loop.script(step)
    assert loop.service.run() == 0
    assert world.counters.workers == 2
    assert accepting[0] is False, "more than its share, by one"
    assert accepting[-1] is True, "after a while a few more or fewer do not matter"
    client.close()
