"""`certeus gap accept` with the whole daemon: the very range that is shown, or nothing."""

import asyncio
import json

import pytest

import certeus
from support.daemon import Daemon, scratch_dir
from support.flushing import gaps, seqs
from support.postgres import installations, server
from support.waiting import wait_until

pytestmark = pytest.mark.integration

AWAY = '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n'


def append(daemon: Daemon, count: int) -> None:
    with certeus.connect(daemon.ingest, source="gap") as producer:
        ticket = producer.append_many("t", [{"n": n} for n in range(count)])
        producer.wait_durable(ticket, timeout=30.0)


def codes(daemon: Daemon) -> set[str]:
    return {reason["code"] for reason in daemon.status()["reasons"]}


def test_the_range_that_status_shows_is_accepted_and_no_other() -> None:
    newest = sorted(installations().items())[-1][1]
    with scratch_dir() as root, server(newest) as postgres:
        daemon = Daemon(root, AWAY)
        try:
            # Each start opens a segment, and copies the last group into it: one event here.
            for _ in range(3):
                daemon.start()
                append(daemon, 100)
                append(daemon, 1)
                assert daemon.stop() == 0
            segments = sorted((daemon.state_dir / "log").glob("*.log"))
            segments[1].rename(root / "away")
            daemon.config_path.write_text(f'[postgres]\ndsn = "{postgres.dsn()}"\n')
            daemon.start()
            wait_until("the gap", lambda: daemon.status()["reports"].get("gap"))
            gap = daemon.status()["reports"]["gap"]
            assert (gap["first_seq"], gap["last_seq"]) == (102, 201)
            assert "log-gap" in codes(daemon)
            other = daemon.certeus("gap", "accept", "102..200", code=1)
            assert b"stopped at 102..201" in other.stderr
            assert daemon.certeus("gap", "accept", "all", code=2).stderr
            assert daemon.status()["flushed_seq"] == 101
            accepted = daemon.certeus("gap", "accept", "102..201", "--json")
            assert json.loads(accepted.stdout)["done"] == "gap 102..201 accepted"
            daemon.certeus("wait", "--flushed", "--timeout", "30")
            wait_until("no gap", lambda: not daemon.status()["reports"].get("gap"))
            late = daemon.certeus("gap", "accept", code=1)
            assert b"does not wait" in late.stderr
            assert daemon.stop() == 0
        finally:
            daemon.clean_up()
        dsn = postgres.dsn()
        assert asyncio.run(seqs(dsn)) == [*range(1, 102), *range(202, 304)]
        assert [gap[:2] for gap in asyncio.run(gaps(dsn))] == [(102, 201)]
