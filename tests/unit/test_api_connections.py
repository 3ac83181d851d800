"""The guard around connections: number, time, memory; over real sockets."""

import asyncio
import os
import resource
import socket
import threading
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from certeusd.api import connections, listening
from certeusd.api.connections import State
from certeusd.api.slots import STRANGERS, STRANGERS_MAX, Slots, affordable
from support.api_front import everything, front, get
from support.waiting import wait_until

SOON_S = 20.0


async def fine(_: web.BaseRequest) -> web.StreamResponse:
    return web.Response(text="fine")


@contextmanager
def descriptors_left(count: int) -> Generator[None]:
    """Let this process open so many descriptors, and no more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))
    fillers = [os.open("/dev/null", os.O_RDONLY)]
    while fillers[-1] < highest:  # No gaps below the limit.
        fillers.append(os.open("/dev/null", os.O_RDONLY))
    resource.setrlimit(resource.RLIMIT_NOFILE, (fillers[-1] + 1 + count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for filler in fillers:
            os.close(filler)


@given(
    most=st.integers(2, 12),
    per_peer=st.integers(1, 20),
    steps=st.lists(st.tuples(st.booleans(), st.sampled_from("abc")), max_size=60),
)
def test_slots_are_what_a_list_of_who_has_one_says(
    most: int, per_peer: int, steps: list[tuple[bool, str]]
) -> None:
    slots, have = Slots(most, per_peer), list[str]()
    for takes, peer in steps:
        if takes:
            may = len(have) < most and have.count(peer) < min(per_peer, most // 2)
            assert slots.take(peer) is may
            have += [peer] * may
        elif peer in have:
            slots.give_back(peer)
            have.remove(peer)
        assert len(slots) == len(have)


def test_nobody_has_more_than_half_whatever_is_configured() -> None:
    slots = Slots(100, 1000)
    assert sum(slots.take("a") for _ in range(100)) == 50
    assert slots.take("b")


def test_all_strangers_together_have_a_few() -> None:
    slots = Slots(4096, 1024)
    assert sum(slots.take(STRANGERS) for _ in range(1000)) == STRANGERS_MAX


@pytest.mark.parametrize(
    ("wanted", "descriptors", "most"), [(4096, 65536, 4096), (4096, 1024, 768), (4096, 100, 2)]
)
def test_there_are_as_many_connections_as_there_are_descriptors_for(
    wanted: int, descriptors: int, most: int
) -> None:
    assert affordable(wanted, descriptors) == most


def test_one_too_many_is_closed_at_once_and_others_come_in(tmp_path: Path) -> None:
    with front(tmp_path, fine, Slots(8, 3)) as served, ExitStack() as held:
        for _ in range(3):
            held.enter_context(served.connected("uid:1"))
        wait_until("three", lambda: len(served.connections) == 3, SOON_S)
        for _ in range(5):
            assert served.asked(b"") == b""
        assert served.counted["turned_away_total"] == 5
        assert served.asked(get(), "uid:2").endswith(b"fine")
        held.close()
        wait_until("none", lambda: len(served.connections) == 0, SOON_S)
        assert served.asked(get(), "uid:1").endswith(b"fine")
        assert served.counted["connections_total"] == 5


@pytest.mark.parametrize(
    "begun", [b"", b"GET", b"GET / HTTP/1.1\r\nHost: x\r\nA:", get(close=False) + b"GET / HT"]
)
def test_headers_have_their_time(tmp_path: Path, begun: bytes) -> None:
    with front(tmp_path, fine) as served, served.connected() as end, served.connected() as other:
        end.sendall(begun)
        if b"\r\n\r\n" in begun:
            assert end.recv(65536).endswith(b"fine")
            end.sendall(b"TP/1.1\r\nHo")  # From here on its time runs.
        wait_until("both", lambda: served.connections.states()[State.READING] == 2, SOON_S)
        served.call(served.sweep(time.monotonic() + connections.HEADERS_TIMEOUT_S - 5))
        other.sendall(get(close=False))
        assert other.recv(65536).endswith(b"fine")
        served.call(served.sweep(time.monotonic() + connections.HEADERS_TIMEOUT_S))
        assert everything(end) == b""
        other.sendall(get())
        assert everything(other).endswith(b"fine")


def test_an_idle_connection_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "IDLE_TIMEOUT_S", 0.2)
    with front(tmp_path, fine) as served:
        assert served.asked(get(close=False)).endswith(b"fine")


def test_who_takes_nothing_of_an_answer_is_given_up(tmp_path: Path) -> None:
    ended = threading.Event()

    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        try:
            while True:
                await answer.write(bytes(32768))
        finally:
            ended.set()

    with front(tmp_path, endless) as served, served.connected() as end:
        end.sendall(get())
        wait_until("a pause", lambda: served.connections.states()[State.STUCK] == 1, SOON_S)
        served.call(served.sweep(time.monotonic() + connections.WRITE_TIMEOUT_S - 5))
        assert not ended.is_set()
        served.call(served.sweep(time.monotonic() + connections.WRITE_TIMEOUT_S))
        assert ended.wait(SOON_S)
        wait_until("its slot", lambda: len(served.connections) == 0, SOON_S)


def test_an_answer_that_nobody_takes_does_not_keep_a_closed_connection(
    tmp_path: Path,
) -> None:
    async def long(request: web.BaseRequest) -> web.StreamResponse:
        end = request.get_extra_info("socket")
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 0)
        return web.Response(body=bytes(48 * 1024))

    with front(tmp_path, long) as served, served.connected() as end:
        end.sendall(get())
        wait_until("its end", lambda: served.connections.states()[State.CLOSING] == 1, SOON_S)
        now = time.monotonic()
        served.call(served.sweep(now))
        served.call(served.sweep(now + connections.WRITE_TIMEOUT_S - 5))
        assert len(served.connections) == 1
        served.call(served.sweep(now + connections.WRITE_TIMEOUT_S))
        wait_until("its slot", lambda: len(served.connections) == 0, SOON_S)


def test_who_runs_away_keeps_the_slot_until_the_handler_has_ended(tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    async def slow(_: web.BaseRequest) -> web.StreamResponse:
        begun.set()
        await asyncio.to_thread(go_on.wait, SOON_S)
        return web.Response()

    with front(tmp_path, slow, Slots(4, 1)) as served:
        with served.connected() as end:
            end.sendall(get())
            assert begun.wait(SOON_S)
        wait_until("its end", lambda: State.CLOSING in served.connections.states(), SOON_S)
        assert served.asked(b"") == b""
        assert served.counted["turned_away_total"] == 1
        go_on.set()
        wait_until("its slot", lambda: len(served.connections) == 0, SOON_S)


@pytest.mark.parametrize(
    ("request_", "status", "kind"),
    [
        (b"hello\r\n\r\n", 400, b"bad-http"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 9000 + b"\r\n\r\n", 431, b"headers-too-"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 200 + b"\r\n", 400, b"bad-http"),
        (b"\x16\x03\x01" + bytes(200) + b"\r\n\r\n", 400, b"bad-http"),
    ],
)
def test_what_is_no_request_is_answered_and_not_logged(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], request_: bytes, status: int, kind: bytes
) -> None:
    with front(tmp_path, fine) as served:
        answer = served.asked(request_)
    assert b" %d " % status in answer.partition(b"\r\n")[0]
    assert b"urn:certeus:problem:" + kind in answer
    assert capfd.readouterr() == ("", "")


def test_the_end_waits_for_what_is_under_way(tmp_path: Path) -> None:
    begun, go_on = threading.Event(), threading.Event()

    async def slow(_: web.BaseRequest) -> web.StreamResponse:
        begun.set()
        await asyncio.to_thread(go_on.wait, SOON_S)
        return web.Response(text="done")

    with front(tmp_path, slow) as served, served.connected() as idle, served.connected() as end:
        end.sendall(get(close=False))
        assert begun.wait(SOON_S)
        closing = asyncio.run_coroutine_threadsafe(served.connections.close(SOON_S), served.loop)
        go_on.set()
        assert everything(end).endswith(b"done")
        closing.result(SOON_S)
        assert everything(idle) == b""
        assert len(served.connections) == 0


def test_the_end_waits_for_a_body_that_is_still_coming(tmp_path: Path) -> None:
    async def echo(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=await request.read())

    with front(tmp_path, echo) as served, served.connected() as end:
        end.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
        wait_until("it", lambda: State.ANSWERING in served.connections.states(), SOON_S)
        closing = asyncio.run_coroutine_threadsafe(served.connections.close(SOON_S), served.loop)
        served.call(asyncio.sleep(0))
        end.sendall(b"cd")
        assert everything(end).endswith(b"abcd")
        closing.result(SOON_S)


def test_without_descriptors_who_connects_waits_and_the_others_are_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "PAUSE_S", 0.05)
    with front(tmp_path, fine) as served, served.connected() as known:
        wait_until("one", lambda: len(served.connections) == 1, SOON_S)
        with socket.socket(socket.AF_UNIX) as late:
            late.settimeout(SOON_S)
            with descriptors_left(0):
                late.connect(str(served.path))
                known.sendall(get(close=False))
                assert known.recv(65536).endswith(b"fine")
                late.sendall(get())
                assert len(served.connections) == 1
            assert everything(late).endswith(b"fine")
