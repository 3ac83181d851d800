"""The log and an embedded PostgreSQL on one small disk; and delivered segments that are kept.

The whole daemon with real processes. `tests/unit/test_room.py` and the log's own tests go through
the levels one by one.
"""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

import certeus
from support.attack import Attack, Outcome, compare
from support.daemon import Daemon, scratch_dir
from support.disks import small_disk, unusable
from support.flushing import query
from support.postgres import Server, installations, server
from support.waiting import wait_until

pytestmark = [pytest.mark.crash, pytest.mark.integration]

MIB = 1 << 20
SEGMENT = 4 * MIB
ROWS = "SELECT (data->>'n')::int AS n FROM certeus.events ORDER BY log_id, seq"
PAD = "x" * 8000


@pytest.fixture
def primary() -> Iterator[Server]:
    newest = sorted(installations().items())[-1][1]
    with server(newest) as running:
        yield running


def numbers(dsn: str) -> list[int]:
    """What is there; nothing while the server cannot say."""

    async def run() -> list[int]:
        async with query(dsn) as connection:
            return [row["n"] for row in await connection.fetch(ROWS)]

    try:
        return asyncio.run(run())
    except (OSError, asyncpg.PostgresError):
        return []


def wait_for_rows(dsn: str, count: int) -> None:
    wait_until("rows", lambda: len(numbers(dsn)) == count, 60)


def codes(daemon: Daemon) -> set[str]:
    return {reason["code"] for reason in daemon.status()["reasons"]}


def append(producer: certeus.Producer, first: int, count: int) -> int:
    last = producer.append_many("t", [{"n": n, "pad": PAD} for n in range(first, first + count)])
    producer.wait_durable(last, timeout=60.0)
    return first + count


def append_until_full(producer: certeus.Producer, first: int) -> int:
    """Append until the ring has been full for a while; the number that comes next."""
    for n in range(first, first + 20_000):
        try:
            producer.append("t", {"n": n, "pad": PAD}, timeout=3.0)
        except certeus.RingFullError:
            return n
    raise AssertionError("a log without room took 160 MB")


LOW = """
[log]
segment_bytes = "4MiB"
bytes_max = "64MiB"
disk_reserve_bytes = "128MiB"
"""


@pytest.mark.timeout(300)
def test_a_disk_that_somebody_fills_stops_delivery_before_the_server_and_all_goes_on_with_room(
    attack: Attack,
) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounts a small file system: needs root")
    if why := unusable("tmpfs"):
        pytest.skip(why)
    rounds = attack.cases(1, 4)
    with small_disk("tmpfs", 512) as disk:
        daemon = Daemon(disk.path, LOW)
        try:
            daemon.start()
            dsn = daemon.dsn()
            next_n = 1
            with certeus.connect(daemon.ingest, source="room") as producer:
                for _ in range(rounds):
                    next_n = append(producer, next_n, 100)
                    wait_for_rows(dsn, next_n - 1)
                    pids = daemon.pids("log"), daemon.pids("flush"), daemon.pids("postgres")
                    # A quarter of the reserve is 32 MiB: below it nothing is sent any more.
                    disk.fill(leave=20 * MIB)
                    wait_until("low disk", lambda: "disk-low" in codes(daemon))
                    next_n = append_until_full(producer, next_n)
                    wait_until("full disk", lambda: "disk-full" in codes(daemon))
                    assert daemon.status()["state"] == "degraded"
                    assert 0 < len(numbers(dsn)) < next_n - 1, "it answers, and got no more"
                    assert disk.free() > 8 * MIB, "the last room is nobody's"
                    disk.make_room()
                    wait_for_rows(dsn, next_n - 1)
                    wait_until("room", lambda: not codes(daemon) & {"disk-low", "disk-full"})
                    now = daemon.pids("log"), daemon.pids("flush"), daemon.pids("postgres")
                    assert now == pids, "nobody was started again"
            verdict = compare(list(range(1, next_n)), numbers(dsn))
            attack.report(
                Outcome(
                    attack="disk: filled by others, with embedded PostgreSQL",
                    cases=rounds,
                    acknowledged=next_n - 1,
                    in_flight=rounds,
                    lost=verdict.lost,
                    doubled=verdict.doubled,
                    reordered=verdict.reordered,
                )
            )
            assert daemon.stop() == 0
        finally:
            daemon.clean_up()


def oldest_segment(state_dir: Path) -> int:
    return min(int(path.stem) for path in (state_dir / "log").glob("*.log"))


@pytest.mark.parametrize("retained", [True, pytest.param(False, marks=pytest.mark.full)])
@pytest.mark.timeout(300)
def test_a_server_put_back_behind_delivered_segments_gets_them_again_if_they_are_retained(
    primary: Server, attack: Attack, retained: bool
) -> None:
    dsn, copy = primary.dsn(), primary.folder / "copy"
    config = f'[log]\nsegment_bytes = "4MiB"\nretain_bytes = {256 * MIB if retained else 0}\n'
    with scratch_dir() as root:
        daemon = Daemon(root, config + f'[postgres]\ndsn = "{dsn}"\n')
        try:
            daemon.start()
            with certeus.connect(daemon.ingest, source="kept") as producer:
                next_n = append(producer, 1, 300)
                wait_for_rows(dsn, next_n - 1)
                primary.stop(signal.SIGINT)
                primary.copy_data(copy)
                primary.start()
                for _ in range(5):
                    next_n = append(producer, next_n, SEGMENT // len(PAD))
                wait_for_rows(dsn, next_n - 1)
                if not retained:
                    wait_until("a trim", lambda: oldest_segment(daemon.state_dir) > 3)
                primary.stop(signal.SIGQUIT)
                primary.put_back(copy)
                primary.start()
                if not retained:
                    wait_until("a gap", lambda: "behind-log" in codes(daemon), 60)
                    return
                wait_for_rows(dsn, next_n - 1)
            assert oldest_segment(daemon.state_dir) == 1
            assert codes(daemon) <= {"postgres-away"}
            verdict = compare(list(range(1, next_n)), numbers(dsn))
            attack.report(
                Outcome(
                    attack="PostgreSQL: put back behind delivered segments",
                    cases=1,
                    acknowledged=next_n - 1,
                    in_flight=1,
                    lost=verdict.lost,
                    doubled=verdict.doubled,
                    reordered=verdict.reordered,
                )
            )
            assert daemon.stop() == 0
        finally:
            daemon.clean_up()


@pytest.mark.timeout(120)
def test_space_that_comes_back_is_told_by_metrics(attack: Attack) -> None:
    """What an operator watches: bytes that are free, and whether the log is short of them."""
    del attack
    if os.geteuid() != 0:
        pytest.skip("mounts a small file system: needs root")
    with small_disk("tmpfs", 160) as disk:
        dsn = "postgresql://nobody@/none?host=/nonexistent"
        daemon = Daemon(disk.path, LOW + f'[postgres]\ndsn = "{dsn}"\n')
        try:
            daemon.start()
            assert "certeus_disk_short 0.0" in daemon.text("/metrics")
            disk.fill(leave=64 * MIB)
            wait_until("short", lambda: "certeus_disk_short 1.0" in daemon.text("/metrics"))
            free = "disk_free_bytes"
            wait_until("bytes", lambda: daemon.status()["log"][free] <= 64 * MIB)
            disk.make_room()
            wait_until("room", lambda: "certeus_disk_short 0.0" in daemon.text("/metrics"))
            assert daemon.stop() == 0
        finally:
            daemon.clean_up()
