"""The wall clock is set while events flow: a day back, ten years on, to 1970, over midnight.

A preloaded library gives the daemon's processes another wall clock (tests/support/set_clock.c);
PostgreSQL and this machine keep theirs. After each jump a probe's row must bear the time that was
set, so the test cannot be blind; and a process dies, so that recovery sees an earlier clock, too.
"""

import asyncio
import json
import mmap
import struct
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import asyncpg
import pytest

import certeus
from support import processes
from support.attack import Attack, Outcome
from support.daemon import Daemon, scratch_dir
from support.soak_load import Load
from support.soak_oracle import Oracle
from support.waiting import wait_until

pytestmark = [pytest.mark.crash, pytest.mark.integration]

CONFIG = "[worker]\ncount = 1\n"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SLACK = timedelta(seconds=60)
IN_FLIGHT_MIN = 100
WAIT_S = 60.0


class Clock:
    """The daemon's wall clock: the machine's, and an offset that can be set."""

    def __init__(self, folder: Path) -> None:
        self.library = folder / "set_clock.so"
        source = Path(__file__).parents[1] / "support" / "set_clock.c"
        options = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror"]
        subprocess.run(["cc", *options, "-o", self.library, source], check=True)
        self.library.chmod(0o755)
        path = folder / "clock"
        path.write_bytes(bytes(4096))
        with path.open("r+b") as file:
            self._page = mmap.mmap(file.fileno(), 4096)
        self.env = {"LD_PRELOAD": str(self.library), "SET_CLOCK_FILE": str(path)}

    def set(self, wanted: datetime) -> None:
        self._page[0:8] = struct.pack("=q", round(wanted.timestamp() - time.time()))

    def now(self) -> datetime:
        (offset,) = struct.unpack("=q", self._page[0:8])
        return datetime.now(UTC) + timedelta(seconds=offset)


JUMPS: tuple[Callable[[datetime], datetime], ...] = (
    lambda now: now - timedelta(days=1),
    lambda now: now + timedelta(days=3652),
    lambda now: now.replace(hour=23, minute=59, second=58) + timedelta(days=40),
    lambda now: EPOCH + timedelta(seconds=10),
    lambda now: EPOCH - timedelta(days=400),
    lambda now: now,
    lambda now: now - timedelta(hours=1),
    lambda now: datetime(2099, 12, 31, 23, 59, 58, tzinfo=UTC),
    lambda now: now + timedelta(seconds=3),
)
VICTIMS = ("log", "flush", "worker", "supervisor")


def strike(daemon: Daemon, victim: str) -> None:
    """SIGKILL; the clock stays where it is."""
    wait_until(f"process of {victim}", lambda: processes.find(daemon, victim), WAIT_S)
    for process in processes.held(processes.find(daemon, victim)):
        process.send(processes.SIGKILL)
        process.close()
    if victim == "supervisor":
        assert daemon.process is not None
        daemon.process.wait(60)
        daemon.start()


def deaths(daemon: Daemon) -> list[int]:
    """Exit codes of children that ended although nobody had killed them."""
    found: list[int] = []
    for line in daemon.log_path.read_text(errors="replace").splitlines():
        if '"child_died"' in line and line.startswith("{"):
            found.append(int(json.loads(line)["code"]))
    return [code for code in found if code != -processes.SIGKILL]


def probe(daemon: Daemon, clock: Clock, number: int) -> tuple[int, datetime, datetime]:
    """An event of its own; its seq, and the clock before and after it was acknowledged."""
    before = clock.now()
    with certeus.connect(daemon.ingest, source="probe", timeout=30.0) as producer:
        ticket = producer.append("probe", {"n": number}, id=f"probe-{number}")
        producer.wait_durable(ticket, timeout=WAIT_S)
        receipt = producer.receipt(ticket)
    assert receipt.verdict == "accepted"
    return receipt.seq, before, clock.now()


def again(daemon: Daemon, number: int, seq: int) -> None:
    """The same event is a duplicate, whatever the clock says."""
    with certeus.connect(daemon.ingest, source="probe", timeout=30.0) as producer:
        ticket = producer.append("probe", {"n": number}, id=f"probe-{number}")
        producer.wait_durable(ticket, timeout=WAIT_S)
        assert (producer.receipt(ticket).verdict, producer.receipt(ticket).seq) == (
            "duplicate",
            seq,
        )


def has_settled(load: Load, more_than: int) -> bool:
    return load.settled() > more_than


def sane(daemon: Daemon) -> None:
    """`status` neither breaks nor tells of times that cannot be."""
    wait_until("state without a reason", lambda: daemon.status()["state"] == "ready", WAIT_S)
    status = daemon.status()
    assert status["uptime_seconds"] >= 0
    assert 0 <= status["lag_seconds"] < 3600


async def recorded(dsn: str) -> tuple[dict[int, datetime], list[str]]:
    """When each probe was recorded, by seq; and the names of all leaves."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            "SELECT seq, recorded_at FROM certeus.events WHERE type = 'probe'"
        )
        leaves = await connection.fetch(
            "SELECT inhrelid::regclass::text AS name FROM pg_inherits"
            " WHERE inhparent = 'certeus.events'::regclass"
        )
    finally:
        await connection.close()
    return {row["seq"]: row["recorded_at"] for row in rows}, [row["name"] for row in leaves]


@pytest.mark.timeout(600)
def test_clock_that_is_set_back_and_forward_harms_nothing(attack: Attack) -> None:
    jumps = JUMPS * attack.cases(1, 3)
    with scratch_dir() as root:
        clock = Clock(root)
        daemon = Daemon(root, CONFIG, clock.env)
        probes: list[tuple[int, datetime, datetime]] = []
        in_flight = 1 << 30
        daemon.start()
        load = Load(daemon)
        try:
            wait_until("producers", load.all_live, WAIT_S)
            for number, jump in enumerate(jumps):
                wait_until("load", lambda: load.keep_in_flight(IN_FLIGHT_MIN), WAIT_S)
                in_flight = min(in_flight, load.in_flight())
                clock.set(jump(datetime.now(UTC)))
                load.grant(300)
                probes.append(probe(daemon, clock, number))
                sane(daemon)
                load.grant(300)
                strike(daemon, VICTIMS[number % len(VICTIMS)])
                load.grant(300)
                wait_until("progress", partial(has_settled, load, load.settled()), WAIT_S)
                again(daemon, number, probes[-1][0])
                again(daemon, 0, probes[0][0])
                daemon.certeus("wait", "--flushed", "--timeout", "60")
            sane(daemon)
            load.finish()
            daemon.certeus("wait", "--flushed", "--timeout", "60")
            judged = Oracle(daemon.dsn()).judge(load)
            times, leaves = asyncio.run(recorded(daemon.dsn()))
            assert daemon.stop() == 0
            daemon.certeus("log", "check")
            assert deaths(daemon) == [], daemon.log_tail()
        finally:
            load.end()
            daemon.clean_up()
    for seq, before, after in probes:
        first, last = max(before, EPOCH) - SLACK, max(after, EPOCH) + SLACK
        assert first <= times[seq] <= last, f"recorded at {times[seq]}, not {first}..{last}"
        assert any(times[seq].strftime("%Y%m%d") in name for name in leaves), leaves
    assert len(times) == len(probes)
    attack.report(
        Outcome(
            "wall clock set back and forward", len(jumps), judged.acknowledged, in_flight,
            judged.lost, judged.doubled, judged.reordered,
        )
    )  # fmt: skip
