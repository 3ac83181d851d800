"""The api's readers over a real log and real connections: what they see, hold and let go of."""

import asyncio
import contextlib
import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web

from certeusd import logs
from certeusd._native import SegmentBuilder
from certeusd.api import reading, streams
from certeusd.api.connections import Connection, State
from certeusd.api.faults import answered
from certeusd.api.reading import Reading, get_events
from certeusd.api.routing import Context
from certeusd.log import tailing
from support.api_asking import Answer
from support.api_client import EVENTS, Api
from support.api_front import WAIT_S, Front, front, get
from support.waiting import wait_until

AT_NS = 1_700_000_000_123_000_000
STREAM = "Accept: text/event-stream"


class World:
    """A log, what is told of it, and the route that reads it."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "log"
        self.folder.mkdir()
        self.builder = SegmentBuilder(self.folder, bytes(16), bytes(32))
        self.words = {"durable_seq": 0, "epoch": 1}
        self.shown = list[int]()

        def word(_: str, name: str) -> int:
            return self.words[name]

        def show(_: str, value: int) -> None:
            self.shown.append(value)

        self.process = SimpleNamespace(
            board=SimpleNamespace(get=word),
            paths=SimpleNamespace(log=self.folder),
            config=SimpleNamespace(api=SimpleNamespace(tenant="mine")),
            gauge=show,
            draining=asyncio.Event(),
        )
        self.front: Front
        self.segment()

    def segment(self) -> None:
        self.builder.segment()
        self.builder.producer(1, "mine", "shop")
        self.builder.producer(2, "theirs", "shop")

    def group(self, *producers: int, data: bytes = b"{}") -> None:
        for producer in producers:
            self.builder.record(producer, self.builder.next_seq, "t", data)
        self.builder.commit(AT_NS)
        self.words["durable_seq"] = self.builder.next_seq - 1

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)
        assert connection.caller is not None
        found = SimpleNamespace(process=self.process, reading=self.reading)
        work = get_events(cast(Context, found), connection.caller, request)
        return await answered(request, work, logs.get_logger())

    async def begin(self) -> None:
        self.reading = Reading(cast(Any, self.process))

    def held(self) -> int:
        """How many files of the log are open, but for the one that its builder writes."""
        names = list[str]()
        for descriptor in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                names.append(str(descriptor.readlink()))
        return sum(name.startswith(f"{self.folder}/") for name in names) - 1

    @property
    def api(self) -> Api:
        return Api(self.front.path, WAIT_S)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    with front(tmp_path, made.handle) as made.front:
        made.front.call(made.begin())
        yield made


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> list[tailing.Tailing]:
    """Every reader that was made, remembered."""
    made = list[tailing.Tailing]()

    class Remembered(tailing.Tailing):
        def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as the other one
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr(reading, "Tailing", Remembered)
    return made


def seqs(answer: Answer) -> list[int]:
    return [one["seq"] for one in answer.lines]


def next_seqs(messages: Iterator[dict[str, str]], count: int) -> list[int]:
    found = list[int]()
    while len(found) < count:
        if "data" in (message := next(messages)):
            found.append(json.loads(message["data"])["seq"])
    return found


def test_another_tenants_events_are_in_no_answer(world: World) -> None:
    world.group(1, 2, 1)
    world.group(2)
    world.group(1)
    for query in ("", "?source=shop", "?type=t"):
        assert seqs(world.api.get(EVENTS + query)) == [1, 3, 5]
    with world.api.followed("?after_seq=0&limit=3") as messages:
        assert next_seqs(messages, 3) == [1, 3, 5]


def test_what_is_not_durable_yet_is_not_read(world: World) -> None:
    for _ in range(3):
        world.group(1, 1)
    world.words["durable_seq"] = 4
    assert seqs(world.api.get(EVENTS)) == [1, 2, 3, 4]
    with world.api.followed("?after_seq=0") as messages:
        assert next_seqs(messages, 4) == [1, 2, 3, 4]
        world.words["durable_seq"] = 6
        assert next_seqs(messages, 2) == [5, 6]
        world.words["durable_seq"] = 4
    with world.api.followed("?after_seq=2") as messages:
        assert next_seqs(messages, 1) == [3]
        world.front.loop.call_soon_threadsafe(world.process.draining.set)
        rest = [one["id"] for one in messages if "data" in one]
        assert rest == ["4"], "nothing came before its time"


def test_what_was_trimmed_is_named_to_who_resumes_in_it(world: World) -> None:
    world.group(1, 1, 1)
    world.segment()
    world.group(1)
    (first, _) = sorted(world.folder.glob("*.log"))
    first.unlink()
    with world.api.followed(Last_Event_ID="1") as messages:
        told = [next(messages) for _ in range(4)]
    assert told[1:3] == [{"id": "1"}, {
        "event": "gap", "id": "3",
        "data": '{"first_seq": 2, "last_seq": 3, "reason": "trimmed"}',
    }]  # fmt: skip
    assert told[3]["id"] == "4"


def test_who_has_ended_holds_no_segment(world: World, readers: list[tailing.Tailing]) -> None:
    world.group(1, 1, 1)
    assert seqs(world.api.get(f"{EVENTS}?limit=1")) == [1]
    with world.api.followed("?after_seq=0") as messages:
        assert next_seqs(messages, 3) == [1, 2, 3]
    wait_until("nobody follows", lambda: world.shown[-1] == 0)
    assert len(readers) == 2
    assert world.held() == 0


def test_who_reads_nothing_holds_no_segment_and_misses_nothing(
    world: World, readers: list[tailing.Tailing]
) -> None:
    for _ in range(80):
        world.group(1, data=json.dumps("x" * 100_000).encode())
    for stream in (True, False):
        readers.clear()
        with world.front.connected() as end:
            target, told = f"{EVENTS}?after_seq=0&limit=80", [STREAM] if stream else []
            end.sendall(get(target, *told))
            wait_until("a part was read", lambda: readers and readers[0].after_seq)
            wait_until("no segment is held", lambda: not world.held(), streams.WRITE_TIMEOUT_S / 2)
            assert readers[0].after_seq < 40, "no more than a part was read"
            answer = b"".join(iter(lambda: end.recv(1 << 20), b""))
        found = [int(part.split(b",")[0]) for part in answer.split(b'{"seq": ')[1:]]
        assert found == list(range(1, 81))


def test_who_has_gone_is_read_for_no_longer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though nothing is written to it, which would show that: nothing fits the filter."""
    reads, may = list[int](), threading.Event()

    class Waiting(tailing.Tailing):
        def read(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - as the other one
            reads.append(1)
            assert may.wait(WAIT_S)
            return super().read(*args, **kwargs)

    monkeypatch.setattr(reading, "Tailing", Waiting)
    monkeypatch.setattr(tailing, "BATCH_ROWS_MAX", 1)
    for _ in range(100):
        world.group(1)
    with world.front.connected() as end:
        end.sendall(get(f"{EVENTS}?type=none"))
        wait_until("it reads", lambda: reads)
    connections = world.front.connections
    wait_until("it is known to have gone", lambda: connections.states()[State.CLOSING])
    world.front.call(asyncio.sleep(0))
    may.set()
    wait_until("its place is free", lambda: not len(connections))
    assert len(reads) == 1


def test_before_the_log_is_known_nobody_is_told_where_it_ends(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither that a number is ahead of it, nor that nothing was there when one came."""
    world.group(1, 1, 1)
    world.words = {"durable_seq": 0, "epoch": 0}
    with ThreadPoolExecutor(3) as threads:

        def first(query: str) -> dict[str, str]:
            with world.api.followed(query) as messages:
                return [next(messages), next(messages)][1]

        new, old = threads.submit(first, ""), threads.submit(first, "?after_seq=2")
        page = threads.submit(world.api.get, f"{EVENTS}?after_seq=2")
        wait_until("they wait", lambda: world.front.connections.states()[State.ANSWERING] == 3)
        world.words["durable_seq"] = 3
        world.words["epoch"] = 1
        assert (new.result(WAIT_S), old.result(WAIT_S)) == ({"id": "3"}, {"id": "2"})
        assert seqs(page.result(WAIT_S)) == [3]
    world.words["epoch"] = 0
    monkeypatch.setattr(reading, "RECOVERED_S", 0.0)
    refused = world.api.get(EVENTS)
    assert (refused.status, refused.json["type"]) == (503, "urn:certeus:problem:recovering")
    assert refused.headers["Retry-After"] == "1"


def test_a_large_part_is_written_in_pieces_each_with_its_time() -> None:
    """So who reads slowly is not taken for one that reads nothing."""
    part, written = os.urandom(3 * streams.PIECE_BYTES + 1), list[bytes]()

    class Taken:
        async def write(self, piece: bytes) -> None:
            written.append(piece)

    asyncio.run(streams.write(cast(web.StreamResponse, Taken()), part))
    assert b"".join(written) == part
    assert max(map(len, written)) == streams.PIECE_BYTES
