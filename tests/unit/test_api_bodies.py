"""Bodies of requests over real sockets: blocks, bounds, encodings, and what stands still."""

import asyncio
import contextlib
import gzip
import json
import math
import socket
import threading
import tracemalloc
import zlib
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certeusd.api import connections
from certeusd.api.bodies import HELD_BODIES_MAX, INFLATED_BYTES, Bodies
from certeusd.api.connections import State
from certeusd.api.problems import ProblemError
from support.api_front import Front, everything, front
from support.waiting import wait_until

BYTES_MAX = 1024 * 1024
SOON_S = 20.0
TEXT = b'{"some": "event"}\n' * 10_000


@pytest.fixture(autouse=True)
def _no_lingering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "LINGER_S", 0.1)


@contextmanager
def reading(root: Path, bodies: Bodies, *, whole: bool = False) -> Generator[Front]:
    """A front whose answer is the body that it read."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        try:
            if whole:
                with bodies.account("peer") as account:
                    return web.Response(body=await bodies.whole(request, account))
            blocks = [block async for block in bodies.blocks(request)]
        except ProblemError as error:
            return error.response()
        assert all(0 < len(block) <= INFLATED_BYTES for block in blocks)
        return web.Response(body=b"".join(blocks))

    with front(root, handle) as served:
        yield served


def post(body: bytes, *headers: str, chunks: int = 0) -> bytes:
    """A request with a body, in chunks of that size where one is given."""
    length = "Transfer-Encoding: chunked" if chunks else f"Content-Length: {len(body)}"
    if chunks:
        parts = [body[at : at + chunks] for at in range(0, len(body), chunks)]
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in [*parts, b""])
    lines = ["POST / HTTP/1.1", "Host: localhost", "Connection: close", length, *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def asked(served: Front, request: bytes) -> tuple[int, bytes]:
    """Status and body of the answer; what is sent after it was given is lost."""
    with served.connected() as end:

        def send() -> None:
            try:
                end.sendall(request)
            except OSError:
                return

        sending = threading.Thread(target=send)
        sending.start()
        head, _, body = everything(end).partition(b"\r\n\r\n")
        sending.join(SOON_S)
    return int(head.split()[1]), body


def kind(answer: tuple[int, bytes]) -> tuple[int, str]:
    status, body = answer
    return status, json.loads(body)["type"].removeprefix("urn:certeus:problem:")


def deflated(data: bytes, level: int = 9) -> bytes:
    return gzip.compress(data, level, mtime=0)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(
    ("sent", "headers"),
    [
        (TEXT, ()),
        (TEXT, ("Content-Encoding: identity",)),
        (deflated(TEXT), ("Content-Encoding: gzip",)),
        (deflated(TEXT), ("Content-Encoding: X-GZip",)),
        (deflated(TEXT[:36]) + deflated(b"") + deflated(TEXT[36:]), ("Content-Encoding: gzip",)),
    ],
    ids=["plain", "identity", "gzip", "x-gzip", "members"],
)
def test_a_body_is_what_was_sent(
    tmp_path: Path, sent: bytes, headers: tuple[str, ...], whole: bool
) -> None:
    with reading(tmp_path, Bodies(BYTES_MAX, SOON_S), whole=whole) as served:
        for chunks in (0, 1000):
            assert asked(served, post(sent, *headers, chunks=chunks)) == (200, TEXT)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(st.binary(max_size=4000), max_size=4),
    level=st.integers(0, 9),
    chunks=st.integers(1, 5000),
)
def test_any_members_in_any_chunks_are_inflated(
    served_gzip: Front, parts: list[bytes], level: int, chunks: int
) -> None:
    sent = b"".join(deflated(part, level) for part in parts)
    request = post(sent, "Content-Encoding: gzip", chunks=chunks)
    assert asked(served_gzip, request) == (200, b"".join(parts))


@pytest.fixture
def served_gzip(tmp_path: Path) -> Generator[Front]:
    with reading(tmp_path, Bodies(BYTES_MAX, SOON_S)) as served:
        yield served


@pytest.mark.parametrize(
    ("sent", "encoding", "status", "word"),
    [
        (deflated(TEXT)[:-9], "gzip", 400, "bad-encoding"),
        (deflated(TEXT) + b"rest", "gzip", 400, "bad-encoding"),
        (b"no gzip at all", "gzip", 400, "bad-encoding"),
        (zlib.compress(TEXT), "gzip", 400, "bad-encoding"),
        (TEXT, "br", 415, "unknown-encoding"),
        (deflated(deflated(TEXT)), "gzip, gzip", 415, "unknown-encoding"),
    ],
)
def test_a_wrong_encoding_is_told(
    served_gzip: Front, sent: bytes, encoding: str, status: int, word: str
) -> None:
    answer = asked(served_gzip, post(sent, f"Content-Encoding: {encoding}"))
    assert kind(answer) == (status, word)


def test_a_bomb_is_refused_before_it_is_large(tmp_path: Path) -> None:
    bomb = deflated(bytes(256 * BYTES_MAX))
    made = list[int]()

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        try:
            async for block in Bodies(BYTES_MAX, SOON_S).blocks(request):
                made.append(len(block))
        except ProblemError as error:
            return error.response()
        raise AssertionError("it was taken")

    with front(tmp_path, handle) as served:
        answer = asked(served, post(bomb, "Content-Encoding: gzip"))
        assert kind(answer) == (413, "body-too-large")
    assert sum(made) < 64 * BYTES_MAX
    assert max(made) <= INFLATED_BYTES


@pytest.mark.parametrize(
    "make",
    [
        lambda: post(bytes(BYTES_MAX + 1)),
        lambda: post(bytes(BYTES_MAX + 1), chunks=60_000),
        lambda: post(deflated(bytes(BYTES_MAX + 1)), "Content-Encoding: gzip"),
        lambda: post(
            deflated(b"") * (BYTES_MAX // 20 + 1), "Content-Encoding: gzip", chunks=60_000
        ),
        lambda: post(b"", "Content-Encoding: gzip").replace(b"h: 0", b"h: 99999999999"),
    ],
    ids=["length", "chunks", "inflated", "empty", "said"],
)
def test_a_whole_body_has_a_bound(tmp_path: Path, make: Callable[[], bytes]) -> None:
    with reading(tmp_path, Bodies(BYTES_MAX, SOON_S), whole=True) as served:
        assert kind(asked(served, make())) == (413, "body-too-large")
        assert asked(served, post(bytes(BYTES_MAX))) == (200, bytes(BYTES_MAX))


@pytest.mark.parametrize(
    "sent",
    [
        post(b"x" * 20_000, chunks=1),
        post(deflated(b"x") * 2000, "Content-Encoding: gzip"),
        post(deflated(b"") * 2000, "Content-Encoding: gzip"),
    ],
    ids=["chunks", "members", "empty"],
)
def test_others_have_their_turn_however_many_pieces_a_body_has(tmp_path: Path, sent: bytes) -> None:
    turns, pieces = 0, list[int]()

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        beside = asyncio.create_task(others())
        async for block in Bodies(BYTES_MAX, SOON_S).blocks(request):
            pieces.append(len(block))
        beside.cancel()
        return web.Response(body=TEXT)

    with front(tmp_path, handle) as served:
        assert asked(served, sent) == (200, TEXT)
    assert turns >= max(len(pieces), sent.count(deflated(b"x")), sent.count(deflated(b"")))


def test_a_body_in_tiny_blocks_takes_no_more_memory(tmp_path: Path) -> None:
    class Tiny(Bodies):
        async def blocks(
            self, request: web.BaseRequest, came_bytes_max: float = math.inf
        ) -> AsyncGenerator[bytes]:
            await request.read()
            for _ in range(BYTES_MAX // 2):
                yield bytes(2)

    peak = 0

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        nonlocal peak
        bodies = Tiny(BYTES_MAX, SOON_S)
        tracemalloc.start()
        with bodies.account("peer") as account:
            body = await bodies.whole(request, account)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return web.Response(body=body)

    with front(tmp_path, handle) as served:
        assert asked(served, post(b"")) == (200, bytes(BYTES_MAX))
    assert peak < 4 * BYTES_MAX


def test_the_bodies_of_one_peer_have_a_bound_together(tmp_path: Path) -> None:
    with reading(tmp_path, Bodies(BYTES_MAX, SOON_S), whole=True) as served:
        half = list[socket.socket]()
        try:
            for _ in range(HELD_BODIES_MAX):
                end = served.connected()
                half.append(end)
                end.sendall(post(bytes(BYTES_MAX))[:-1])
            assert kind(asked(served, post(bytes(64 * 1024)))) == (503, "too-many-bodies")
        finally:
            for end in half:
                end.close()

        def served_again() -> bool:
            return asked(served, post(TEXT)) == (200, TEXT)

        wait_until("their room", served_again, SOON_S)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("chunks", [0, 100])
def test_a_body_that_stands_still_ends_its_connection(
    tmp_path: Path, whole: bool, chunks: int
) -> None:
    with reading(tmp_path, Bodies(BYTES_MAX, 0.1), whole=whole) as served:
        answer = asked(served, post(TEXT, chunks=chunks)[:-1000])
        assert kind(answer) == (408, "body-timeout")
        wait_until("its slot", lambda: len(served.connections) == 0, SOON_S)


def test_a_body_that_does_not_end_while_the_process_drains_is_told(tmp_path: Path) -> None:
    bodies = Bodies(BYTES_MAX, 600.0)

    async def drain() -> None:
        bodies.drain(0.1)

    with reading(tmp_path, bodies) as served, served.connected() as end:
        end.sendall(post(b"x" * 1000)[:-500])
        answering = served.connections.states
        wait_until("it reads", lambda: answering()[State.ANSWERING] == 1, SOON_S)
        served.call(drain())
        head, _, body = everything(end).partition(b"\r\n\r\n")
        assert b"Retry-After: 1" in head
        assert kind((int(head.split()[1]), body)) == (503, "draining")
        assert asked(served, post(b"x")) == (200, b"x")  # What has come in whole is taken.


def test_chunks_that_are_none_end_their_connection(tmp_path: Path) -> None:
    with reading(tmp_path, Bodies(BYTES_MAX, 0.1)) as served, served.connected() as end:
        head, _, _ = post(b"", chunks=1).partition(b"\r\n\r\n")
        end.sendall(head + b"\r\n\r\n3e8\r\n")
        wait_until("its handler", lambda: State.ANSWERING in served.connections.states(), SOON_S)
        end.sendall(TEXT[:1000] + b"\r\nno!\r\n" + TEXT)
        assert everything(end).split()[1] in (b"400", b"408")
        wait_until("its slot", lambda: len(served.connections) == 0, SOON_S)


def test_who_waits_to_be_asked_for_the_body_is_asked(served_gzip: Front) -> None:
    head, _, body = post(TEXT, "Expect: 100-Continue").partition(b"\r\n\r\n")
    with served_gzip.connected() as end:
        end.sendall(head + b"\r\n\r\n")
        assert end.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        end.sendall(body)
        assert everything(end).endswith(TEXT)


def test_who_goes_away_in_the_middle_gives_everything_back(tmp_path: Path) -> None:
    bodies = Bodies(BYTES_MAX, SOON_S)
    with reading(tmp_path, bodies, whole=True) as served:
        for _ in range(3 * HELD_BODIES_MAX):
            with served.connected() as end:
                end.sendall(post(bytes(BYTES_MAX))[:-1])
            wait_until("its slot", lambda: len(served.connections) == 0, SOON_S)
        assert asked(served, post(TEXT)) == (200, TEXT)


def test_a_body_is_on_its_account_until_it_is_appended(tmp_path: Path) -> None:
    bodies, appended = Bodies(BYTES_MAX, SOON_S), threading.Event()
    read = list[int]()

    async def append(request: web.BaseRequest) -> web.StreamResponse:
        try:
            with bodies.account("peer") as account:
                read.append(len(await bodies.whole(request, account)))
                await asyncio.to_thread(appended.wait, SOON_S)
        except ProblemError as error:
            return error.response()
        return web.Response(body=TEXT)

    with front(tmp_path, append) as served, contextlib.ExitStack() as ends:
        ends.callback(appended.set)
        held = [ends.enter_context(served.connected()) for _ in range(HELD_BODIES_MAX)]
        for end in held:
            end.sendall(post(bytes(BYTES_MAX)))
        wait_until("all of them", lambda: len(read) == HELD_BODIES_MAX, SOON_S)
        assert kind(asked(served, post(TEXT))) == (503, "too-many-bodies")
        appended.set()
        assert all(everything(end).endswith(TEXT) for end in held)
        assert asked(served, post(TEXT)) == (200, TEXT)


def test_who_has_gone_before_anybody_reads_is_nobodys_fault(tmp_path: Path) -> None:
    ended, go_on = list[BaseException](), threading.Event()

    async def late(request: web.BaseRequest) -> web.StreamResponse:
        await asyncio.to_thread(go_on.wait, SOON_S)
        try:
            bodies = Bodies(BYTES_MAX, SOON_S)
            with bodies.account("peer") as account:
                await bodies.whole(request, account)
        except BaseException as error:
            ended.append(error)
            raise
        raise AssertionError("there was a body")

    with front(tmp_path, late) as served:
        with served.connected() as end:
            end.sendall(post(b"123")[:-1])
            wait_until("it", lambda: State.ANSWERING in served.connections.states(), SOON_S)
        wait_until("its end", lambda: State.CLOSING in served.connections.states(), SOON_S)
        go_on.set()
        wait_until("its slot", lambda: len(served.connections) == 0, SOON_S)
    assert isinstance(ended[0], ConnectionError)
