"""A child that speaks the channel and does nothing: what the supervisor is tested with.

It tells what it was given in reports of kind `<role>-<index>`, and obeys a file `<role>-<index>` in
the directory that it is given: `die` (exit 3 before Ready), `late` (Ready after half a second),
`deaf` (read nothing), `gauge` (five sessions, acks), `full` (a log without room), `torn` (tell the
first page of sessions and die of the next question), `busy` (a whole CPU, as for two producers),
`roomy` (a log that does not tell that it is full); with any it does not drain. A worker has five
sessions, two a page.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from typing import cast

from certeusd import channel
from certeusd.board import Board
from certeusd.channel import (
    AskSessions,
    Attach,
    Channel,
    Detach,
    Drain,
    HandOver,
    Progress,
    Ready,
    Report,
    Session,
    Sessions,
    Share,
    Start,
    State,
)

LATE_S = 0.5
SESSIONS, PAGE = 5, 2


def main(orders: Path, fd: int) -> None:
    inherited = len(os.listdir("/proc/self/fd")) - 1
    end = channel.adopt(fd)
    packet = end.receive()
    assert packet is not None
    start, given = packet
    assert isinstance(start, Start)
    name = f"{start.role}-{start.index}"
    board = Board(given[0])
    helper = threading.Thread(target=signal.pause, daemon=True)
    helper.start()
    order = orders / name
    if order.exists() and order.read_text() == "die":
        sys.exit(3)
    told: dict[str, object] = {
        "pid": os.getpid(),
        "inherited": inherited,
        "given": len(given),
        "session": os.getsid(0),
        "dsn": start.postgres_dsn,
        "helper": helper.native_id,
        "attached": [],
        "detached": [],
        "workers": start.config.worker.count,
        "handed_over": 0,
    }
    if order.exists() and order.read_text() == "gauge":
        board.set("worker", "sessions", 5, start.index)
        board.set("worker", "ack_ns_buckets_64", 5, start.index)
    if order.exists() and order.read_text() == "full":
        board.set("log", "full", 1)
    if order.exists() and order.read_text() == "busy":
        board.set("worker", "active_sessions", 2, start.index)
        threading.Thread(target=burn, daemon=True).start()
    if start.role == "log":
        board.set("durability", "accepted_seq", 7)
        if not order.exists() or order.read_text() != "roomy":
            end.send(State("log-full", "no room", "make some"))
    if order.exists() and order.read_text() == "late":
        threading.Event().wait(LATE_S)
    end.send(Ready())
    end.send(Progress())
    end.send(Report(name, told))
    if order.exists() and order.read_text() == "deaf":
        while True:
            signal.pause()
    serve(end, name, told, order)


def burn() -> None:
    while True:
        pass


def serve(end: Channel, name: str, told: dict[str, object], order: Path) -> None:
    attached: list[int] = []
    detached: list[int] = []
    while (packet := end.receive()) is not None:
        message, given = packet
        if isinstance(message, Attach):
            size = os.fstat(given[0]).st_size
            assert size == 4 * 4096 + message.forward_bytes + message.return_bytes
            assert len(given) == 3
            attached.append(message.worker)
        elif isinstance(message, Detach):
            detached.append(message.worker)
        elif isinstance(message, AskSessions):
            if message.first and order.exists() and order.read_text() == "torn":
                sys.exit(3)
            end.send(page(message.first))
            continue
        elif isinstance(message, Share):
            told["workers"] = message.workers
        elif isinstance(message, HandOver):
            told["handed_over"] = cast(int, told["handed_over"]) + 1
        elif isinstance(message, Drain) and not order.exists():
            (order.parent / "drained").open("a").write(f"{name}\n")
            return
        for descriptor in given:
            os.close(descriptor)
        told["attached"], told["detached"] = list(attached), list(detached)
        end.send(Report(name, told))


def page(first: int) -> Sessions:
    places = range(first, min(first + PAGE, SESSIONS))
    following = first + PAGE if first + PAGE < SESSIONS else None
    return Sessions([session(place) for place in places], following)


def session(place: int) -> Session:
    return Session(
        number=place, uid=7, pid=8, tenant="shop", source=f"s/{place}", connected_at=0.0,
        events=10, bytes=100, settled=9, duplicates=0, rejected={"too-large": 1}, in_flight=1,
        ring_bytes=1 << 16, ring_used=64, ack_ns_buckets=[0, 0, 0, 8],
    )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[sys.argv.index("--channel") + 1]))
