"""Loss of power, and life without PostgreSQL."""

import asyncio
import json
import os
import subprocess
from pathlib import Path

import asyncpg
import pytest

import certeus
from support.daemon import Daemon, scratch_dir
from support.power import power_cut_disk
from support.waiting import wait_until

NO_POSTGRES = '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n'


async def numbers_in_postgres(dsn: str) -> list[int]:
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            "SELECT (data->>'n')::int AS n FROM certeus.events WHERE type = 't' ORDER BY seq"
        )
    finally:
        await connection.close()
    return [row["n"] for row in rows]


def append_acknowledged(daemon: Daemon, count: int, each: int = 25) -> list[int]:
    """Append numbered events; return those that were acknowledged: all of them."""
    with certeus.connect(daemon.ingest, source="power") as producer:
        for first in range(0, count, each):
            last = producer.append_many("t", [{"n": n} for n in range(first, first + each)])
            producer.wait_durable(last, timeout=30.0)
    return list(range(count))


def numbers_in_log(daemon: Daemon) -> list[int]:
    """What a daemon that recovered this log would deliver, read from its segments."""
    done = daemon.certeus("tail", "-n", "1000000", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    return [event["data"]["n"] for event in events if event.get("type") == "t"]


@pytest.mark.crash
@pytest.mark.integration
def test_events_are_durable_without_postgres_and_rows_after_a_kill_of_everything() -> None:
    with scratch_dir() as root:
        daemon = Daemon(root, NO_POSTGRES)
        try:
            daemon.start()
            acknowledged = append_acknowledged(daemon, 1000)
            wait_until("the flusher's word", lambda: daemon.status()["state"] == "degraded")
            status = daemon.status()
            away = next(r for r in status["reasons"] if r["code"] == "postgres-away")
            assert away["since"]
            assert away["next"]
            assert status["durable_seq"] == 1000
            assert status["flushed_seq"] == 0
            daemon.kill("all")
            daemon.config_path.write_text("")
            daemon.start()
            daemon.certeus("wait", "--flushed", "--timeout", "60")
            assert asyncio.run(numbers_in_postgres(daemon.dsn())) == acknowledged
            assert daemon.stop() == 0
        finally:
            daemon.clean_up()


def survivors_of_a_power_cut(env: dict[str, str]) -> tuple[list[int], list[int]]:
    """Numbers acknowledged before the cut, and numbers that the next daemon has."""
    with power_cut_disk() as disk, scratch_dir() as root:
        daemon = Daemon(root, NO_POSTGRES, env)
        daemon.state_dir = disk.path / "state"
        try:
            daemon.start()
            acknowledged = append_acknowledged(daemon, 2000)
            disk.cut()
            daemon.kill("all")
            disk.unmount()
            disk.mount()
            daemon.env = dict(os.environ)
            daemon.start()
            found = numbers_in_log(daemon)
            assert daemon.stop() == 0
        finally:
            daemon.clean_up()
    return acknowledged, found


@pytest.mark.crash
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a file system of its own")
def test_power_cut_loses_nothing_acknowledged() -> None:
    acknowledged, found = survivors_of_a_power_cut({})
    assert found == acknowledged


@pytest.mark.crash
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a file system of its own")
def test_power_cut_test_fails_when_the_sync_does_nothing(tmp_path: Path) -> None:
    shim = tmp_path / "no_sync.so"
    source = Path(__file__).parents[1] / "support" / "no_sync.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, source], check=True)
    acknowledged, found = survivors_of_a_power_cut({"LD_PRELOAD": str(shim)})
    assert found != acknowledged, "a log that never syncs survived a power cut: the test is blind"
