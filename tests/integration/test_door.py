"""`Door` against a real certeusd: what an encoder made, its verdicts by runs, and kills."""

import asyncio
import contextlib
import json
import signal
import struct
from collections.abc import Awaitable, Callable, Iterator

import pytest

from certeus.receipts import Verdict
from certeusd import doors
from certeusd.api.verdicts import Verdicts
from certeusd.door import RECEIPTS_KEPT, Door, Run
from support.daemon import Daemon, running
from support.waiting import wait_until

pytestmark = pytest.mark.integration

AWAY = '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n'
TYPE, ID = 1, 2
WAIT_S = 60.0


def payload(data: bytes, id: bytes | None = None) -> bytes:
    """One event as `ipc/src/record.rs` draws it, with its length before it."""
    attributes = b"".join(
        struct.pack("<BH", tag, len(value)) + value
        for tag, value in ((TYPE, b"t"), (ID, id))
        if value is not None
    )
    body = struct.pack("<IB3x", len(attributes), 0) + attributes + data
    return struct.pack("<I", len(body)) + body


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with running(AWAY, doors=["api"]) as daemon:
        yield daemon
        assert daemon.stop() == 0


def with_door(daemon: Daemon, run: Callable[[Door], Awaitable[None]]) -> None:
    async def whole() -> None:
        door = await Door.open(doors.private_path(daemon.runtime_dir, "api"), "door")
        try:
            await run(door)
        finally:
            assert await door.close(WAIT_S)

    asyncio.run(whole())


def shown(run: Run) -> tuple[int, str, str]:
    if run.receipt is None:
        return run.length, "accepted", ""
    return run.length, run.receipt.verdict, run.receipt.reason


def test_verdicts_come_by_runs_in_the_order_of_the_payloads(daemon: Daemon) -> None:
    async def run(door: Door) -> None:
        good = [payload(json.dumps({"n": n}).encode()) for n in range(3)]
        tickets = await door.append(
            b"".join([*good, payload(b"{bad"), payload(b"{}", b"a"), payload(b"{}", b"a")]), WAIT_S
        )
        assert tickets == range(1, 7)
        await door.settled(tickets[-1], WAIT_S)
        runs = [shown(run) for run in door.runs(tickets)]
        assert runs == [
            (3, "accepted", ""), (1, "rejected", "invalid-json"),
            (1, "accepted", ""), (1, "duplicate", ""),
        ]  # fmt: skip
        (part,) = [run for run in door.runs(tickets[1:3])]
        assert part.receipt is not None
        assert (part.length, part.receipt.seq) == (2, 2)

    with_door(daemon, run)


def test_of_more_than_is_kept_no_rejection_is_lost(daemon: Daemon) -> None:
    async def run(door: Door) -> None:
        verdicts, pairs = Verdicts(door), RECEIPTS_KEPT // 2 + 40_000
        with door.taken_by(verdicts):
            verdicts.begin([])
            mixed = (payload(b"{bad") + payload(b"1")) * pairs
            tickets = await door.append(mixed, WAIT_S, verdicts.appended)
            assert len(tickets) == 2 * pairs
            await door.settled(tickets[-1], WAIT_S)
            while verdicts.take():
                pass
        summary = verdicts.summary()
        assert (summary.rejected, summary.accepted, summary.pending) == (pairs, pairs, 0)

    with_door(daemon, run)


@pytest.mark.parametrize("known", [True, False])
def test_what_others_append_meanwhile_makes_no_event_accepted(daemon: Daemon, known: bool) -> None:
    async def run(door: Door) -> None:
        slow = Verdicts(door)
        with door.taken_by(slow) if known else contextlib.nullcontext():
            slow.begin([])
            await door.append(payload(b"{bad") * 2, WAIT_S, slow.appended)
            for _ in range(4):
                mixed = (payload(b"{bad") + payload(b"1")) * (RECEIPTS_KEPT // 4)
                tickets = await door.append(mixed, WAIT_S)
                await door.settled(tickets[-1], WAIT_S)
            slow.take()
        assert (slow.rejected, slow.pending) == ((2, 0) if known else (0, 2))

    with_door(daemon, run)


def test_what_appends_at_a_time_keeps_each_block_together(daemon: Daemon) -> None:
    async def run(door: Door) -> None:
        blocks = [b"".join(payload(b"[%d]" % at) for _ in range(2000)) for at in range(8)]
        ranges = await asyncio.gather(*(door.append(block, WAIT_S) for block in blocks))
        assert sorted(len(tickets) for tickets in ranges) == [2000] * 8
        assert sorted(ticket for tickets in ranges for ticket in tickets) == list(range(1, 16_001))
        await door.settled(16_000, WAIT_S)
        assert sum(run.length for run in door.runs(range(1, 16_001))) == 16_000

    with_door(daemon, run)


def test_a_full_ring_gives_back_what_had_no_room(daemon: Daemon) -> None:
    async def run(door: Door) -> None:
        await door.append(payload(b"0"), WAIT_S)
        await door.settled(1, WAIT_S)
        daemon.kill("log", signal.SIGSTOP)
        try:
            big = payload(json.dumps("x" * 200_000).encode()) * 64
            tickets = await door.append(big, 0.5)
            assert 0 < len(tickets) < 64
        finally:
            daemon.kill("log", signal.SIGCONT)
        await door.settled(tickets[-1], WAIT_S)
        assert {shown(run)[1] for run in door.runs(tickets)} == {Verdict.ACCEPTED}

    with_door(daemon, run)


def test_room_that_comes_while_the_ring_is_looked_at_is_seen(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    put = Door._put  # pyright: ignore[reportPrivateUsage]  # the moment is within it
    full = list[int]()

    def put_and_be_late(door: Door, payloads: bytes, at: int) -> int:
        moved = put(door, payloads, at)
        if moved == at:
            full.append(at)
            daemon.kill("log", signal.SIGCONT)
            ring = door._core.ring  # pyright: ignore[reportPrivateUsage]  # it is freed elsewhere
            wait_until("an empty ring", lambda: ring.used_bytes == 0)
        return moved

    async def run(door: Door) -> None:
        await door.append(payload(b"0"), WAIT_S)
        await door.settled(1, WAIT_S)
        monkeypatch.setattr(Door, "_put", put_and_be_late)
        daemon.kill("log", signal.SIGSTOP)
        big = payload(json.dumps("x" * 200_000).encode()) * 30
        tickets = await door.append(big, 10.0)
        assert (len(tickets), bool(full)) == (30, True)

    with_door(daemon, run)


@pytest.mark.crash
@pytest.mark.parametrize("role", ["worker", "log"])
def test_a_kill_loses_nothing_and_keeps_the_order(daemon: Daemon, role: str) -> None:
    async def run(door: Door) -> None:
        tickets = range(1, 1)
        for at in range(6):
            block = b"".join(payload(b"%d" % (at * 500 + n)) for n in range(500))
            tickets = await door.append(block, WAIT_S)
            if at in (1, 3):
                daemon.kill_next(role)
        await door.settled(tickets[-1], WAIT_S)

    with_door(daemon, run)
    lines = daemon.certeus("tail", "-n", "5000").stdout.splitlines()
    assert [json.loads(line)["data"] for line in lines] == list(range(3000))
