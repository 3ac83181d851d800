"""The promise as a whole: everything is killed, again and again, and nothing is lost or doubled.

``CERTEUS_CRASH_EVENTS`` and ``CERTEUS_CRASH_SEED`` set the size and repeat a run.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest
from support.daemon import Daemon, running
from support.load import PROGRESS, is_bad
from support.waiting import wait_until

PRODUCERS = 4
EVENTS = int(os.environ.get("CERTEUS_CRASH_EVENTS", "1000000"))
TARGETS = ("supervisor", "worker0", "worker1", "log", "flush", "postgres", "all")
KILLS_EACH = 5
IN_FLIGHT_MIN = 1000

CONFIG = """
[worker]
count = 2
"""


class Load:
    """The producer processes, and the page in which they tell how far they are."""

    def __init__(self, daemon: Daemon, per_producer: int, seed: int) -> None:
        self.page = daemon.root / "progress"
        self.page.write_bytes(bytes(PROGRESS.size * PRODUCERS))
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", "support.load", daemon.ingest, str(index),
                 str(per_producer), str(seed), str(self.page)],
                stdout=subprocess.PIPE,
                cwd=Path(__file__).parents[1],
            )
            for index in range(PRODUCERS)
        ]  # fmt: skip

    def progress(self) -> tuple[int, int]:
        """Events appended and settled, in all."""
        rows = list(PROGRESS.iter_unpack(self.page.read_bytes()))
        for process in self.processes:
            assert process.poll() in (None, 0), "a producer process failed"
        return sum(row[0] for row in rows), sum(row[1] for row in rows)

    def in_flight(self) -> int:
        appended, settled = self.progress()
        return appended - settled

    def results(self) -> list[dict[str, object]]:
        return [json.loads(process.communicate(timeout=300)[0]) for process in self.processes]

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()


def schedule(seed: int) -> list[str]:
    targets = [target for target in TARGETS for _ in range(KILLS_EACH)]
    random.Random(seed).shuffle(targets)
    return targets


def kill_on_schedule(daemon: Daemon, load: Load, seed: int, events: int) -> None:
    """Kill the next target whenever its share of events is settled and enough are in flight."""
    targets = schedule(seed)
    step = events // (len(targets) + 2)
    for number, target in enumerate(targets, 1):
        wait_until(
            f"progress before kill {number} ({target})",
            lambda number=number: load.progress()[1] >= number * step,
            timeout=180,
        )
        wait_until("events in flight", lambda: load.in_flight() > IN_FLIGHT_MIN, timeout=60)
        if target == "flush":
            wait_until("flusher", lambda: daemon.pids("flush"))
        if target == "postgres":
            wait_until("PostgreSQL", lambda: daemon.pids("postgres"))
        if target.startswith("worker"):
            index = int(target.removeprefix("worker"))
            wait_until("worker", lambda index=index: index in daemon.worker_pids())
        if target == "log":
            wait_until("log writer", lambda: daemon.pids("log"))
        in_flight = load.in_flight()
        assert in_flight > IN_FLIGHT_MIN
        daemon.kill(target)
        print(f"kill {number:2}: {target:10} with {in_flight} events in flight")
        if target in ("supervisor", "all"):
            daemon.start()


async def rows_by_producer(dsn: str) -> dict[int, list[int]]:
    """The numbers of each producer's events, in log order."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            "SELECT (data->>'p')::int AS p, (data->>'n')::int AS n FROM certeus.events"
            " WHERE type = 'crash' ORDER BY log_id, seq"
        )
        assert await connection.fetchval("SELECT count(*) FROM certeus.dead_letters") == 0
        assert await connection.fetchval("SELECT count(*) FROM certeus.gaps") == 0
    finally:
        await connection.close()
    found: dict[int, list[int]] = {index: [] for index in range(PRODUCERS)}
    for row in rows:
        found[row["p"]].append(row["n"])
    return found


@pytest.mark.crash
@pytest.mark.timeout(900)
def test_million_events_survive_every_kill_exactly_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seed = int(os.environ.get("CERTEUS_CRASH_SEED", random.randrange(1 << 30)))
    per_producer = EVENTS // PRODUCERS
    with capsys.disabled(), running(CONFIG) as daemon:
        print(f"\nseed {seed}, {EVENTS} events, {PRODUCERS} producers, 2 workers")
        load = Load(daemon, per_producer, seed)
        try:
            kill_on_schedule(daemon, load, seed, EVENTS)
            results = load.results()
        finally:
            load.end()
        daemon.certeus("wait", "--flushed", "--timeout", "120")
        rows = asyncio.run(rows_by_producer(daemon.dsn()))
        for index, result in enumerate(results):
            bad = [n for n in range(1, per_producer + 1) if is_bad(n)]
            good = [n for n in range(1, per_producer + 1) if not is_bad(n)]
            assert result["settled"] == result["appended"] == per_producer
            assert rows[index] == good, f"producer {index}: rows lost, doubled or out of order"
            assert result["told"] == bad, f"producer {index}: rejections not told exactly once"
            assert (result["accepted"], result["rejected"]) == (len(good), len(bad))
        print(f"all {sum(len(n) for n in rows.values())} rows there, once, in order; resent "
              f"{sum(int(str(r['resent'])) for r in results)}")  # fmt: skip
        assert daemon.stop() == 0
