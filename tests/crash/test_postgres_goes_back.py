"""PostgreSQL is put back to an earlier state while certeusd runs: the log fills in what is missing.

The whole daemon, a server of its own, and nobody who accepts or restarts anything.
"""

import asyncio
import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

import certeus
from support.attack import Attack, Outcome, compare
from support.daemon import Daemon, scratch_dir
from support.flushing import query
from support.postgres import Server, installations, server
from support.waiting import wait_until

pytestmark = [pytest.mark.crash, pytest.mark.integration]

ROUND = 1500
ROWS = "SELECT (data->>'n')::int AS n FROM certeus.events WHERE type = 't' ORDER BY log_id, seq"
ELSEWHERE = (
    "SELECT (SELECT count(*) FROM certeus.gaps) + (SELECT count(*) FROM certeus.dead_letters)"
)


@pytest.fixture
def primary() -> Iterator[Server]:
    with server(newest()) as running:
        yield running


def newest() -> Path:
    return sorted(installations().items())[-1][1]


class Load:
    """One producer that appends numbers and knows which ones are durable."""

    def __init__(self, daemon: Daemon) -> None:
        self.producer = certeus.connect(daemon.ingest, source="back")
        self.last = 0

    def append(self, count: int) -> None:
        rows = [{"n": n} for n in range(self.last + 1, self.last + count + 1)]
        ticket = self.producer.append_many("t", rows)
        self.producer.wait_durable(ticket, timeout=60.0)
        self.last += count


def ask(dsn: str, question: str) -> list[asyncpg.Record]:
    async def run() -> list[asyncpg.Record]:
        async with query(dsn) as connection:
            return list(await connection.fetch(question))

    return asyncio.run(run())


def numbers(dsn: str) -> list[int]:
    """What is there; nothing while the server cannot say."""
    try:
        return [row["n"] for row in ask(dsn, ROWS)]
    except (OSError, asyncpg.PostgresError):
        return []


def has_all(dsn: str, load: Load) -> Callable[[], bool]:
    return lambda: len(numbers(dsn)) >= load.last


def breaker_of(status: dict[str, Any]) -> dict[str, Any]:
    """The breaker in a status; before the flusher has told of it, the status holds none."""
    told: dict[str, Any] | None = status["postgres"]["breaker"]
    return told or {"state": "unknown", "failures": 0}


def is_well(daemon: Daemon) -> bool:
    status = daemon.status()
    return (status["state"], breaker_of(status)["state"]) == ("ready", "closed")


def report(attack: Attack, what: str, cases: int, load: Load, dsn: str) -> None:
    found = numbers(dsn)
    verdict = compare(list(range(1, load.last + 1)), found)
    assert ask(dsn, ELSEWHERE)[0][0] == 0, "nothing is written off, nothing is refused"
    attack.report(
        Outcome(
            attack=what,
            cases=cases,
            acknowledged=load.last,
            in_flight=ROUND,
            lost=verdict.lost,
            doubled=verdict.doubled,
            reordered=verdict.reordered,
        )
    )


@pytest.mark.timeout(300)
def test_a_server_put_back_from_a_copy_of_its_files_gets_again_what_is_missing(
    primary: Server, attack: Attack
) -> None:
    dsn = primary.dsn()
    rounds = attack.cases(1, 5)
    with scratch_dir() as root:
        daemon = Daemon(root, f'[postgres]\ndsn = "{dsn}"\n')
        copy = primary.folder / "copy"
        try:
            daemon.start()
            load = Load(daemon)
            for number in range(rounds):
                load.append(attack.rng.randint(1, ROUND))
                wait_until("rows", has_all(dsn, load))
                # The copy is of a server that was stopped, or crashed, in the middle of its work.
                primary.stop(attack.rng.choice([signal.SIGINT, signal.SIGQUIT]))
                primary.copy_data(copy)
                primary.start()
                load.append(ROUND)
                if attack.rng.random() < 0.7:
                    wait_until("rows", has_all(dsn, load))
                load.append(attack.rng.randint(1, ROUND))
                primary.stop(signal.SIGQUIT)
                load.append(ROUND)
                primary.put_back(copy)
                primary.start()
                if number % 2:
                    daemon.kill("flush")
                load.append(attack.rng.randint(1, ROUND))
                wait_until("rows", has_all(dsn, load), 60)
                assert numbers(dsn) == list(range(1, load.last + 1))
                shutil.rmtree(copy)
            load.producer.close()
            wait_until("daemon without a complaint", lambda: is_well(daemon), 60)
            report(attack, "PostgreSQL: put back from an earlier copy", rounds, load, dsn)
            assert daemon.stop() == 0
        finally:
            daemon.clean_up()


def walsenders(primary: Server) -> list[int]:
    """The processes of the primary that stream to a standby."""
    postmaster = psutil.Process(primary.pid)
    return [
        child.pid for child in postmaster.children() if "walsender" in " ".join(child.cmdline())
    ]


@pytest.mark.full
@pytest.mark.timeout(300)
def test_a_failover_to_a_standby_that_lagged_gets_again_what_the_standby_had_not(
    primary: Server, attack: Attack
) -> None:
    standby = Server(newest())
    try:
        standby.follow(primary)
        standby.start()
        hosts = f"{primary.folder},{standby.folder}"
        dsn = f"postgresql://postgres@/postgres?host={hosts}&target_session_attrs=primary"
        with scratch_dir() as root:
            daemon = Daemon(root, f'[postgres]\ndsn = "{dsn}"\n')
            try:
                daemon.start()
                load = Load(daemon)
                load.append(ROUND)
                wait_until("rows on the standby", has_all(standby.dsn(), load))
                for pid in walsenders(primary):
                    os.kill(pid, signal.SIGSTOP)
                behind = load.last
                load.append(ROUND)
                wait_until("rows on the primary", has_all(primary.dsn(), load))
                load.append(ROUND)
                primary.kill()
                standby.promote()
                assert len(numbers(standby.dsn())) < load.last
                load.append(ROUND)
                wait_until("rows on the new primary", has_all(standby.dsn(), load), 60)
                assert load.last - behind >= 3 * ROUND
                load.producer.close()
                wait_until("daemon without a complaint", lambda: is_well(daemon), 60)
                report(attack, "PostgreSQL: failover to a lagging standby", 1, load, standby.dsn())
                assert daemon.stop() == 0
            finally:
                daemon.clean_up()
    finally:
        standby.remove()


@pytest.mark.timeout(120)
def test_the_breaker_is_seen_in_status_and_metrics(primary: Server) -> None:
    with scratch_dir() as root:
        daemon = Daemon(root, f'[postgres]\ndsn = "{primary.dsn()}"\n')
        try:
            daemon.start()
            wait_until("closed breaker", lambda: is_well(daemon))
            primary.stop(signal.SIGINT)
            wait_until("open breaker", lambda: breaker_of(daemon.status())["failures"] >= 2)
            breaker = breaker_of(daemon.status())
            assert breaker["state"] in ("open", "half-open")
            assert breaker["cause"] == "away"
            assert breaker["since"].endswith("Z")
            shown = daemon.certeus("status").stdout.decode()
            assert "breaker" in shown
            assert "away" in shown
            primary.start()
            daemon.certeus("retry")
            wait_until("closed breaker", lambda: is_well(daemon))
            text = daemon.text("/metrics")
            assert 'certeus_breaker_state{destination="postgres",state="closed"} 1.0' in text
            assert 'certeus_breaker_state{destination="postgres",state="open"} 0.0' in text
            moves = 'certeus_breaker_transitions_total{destination="postgres",state="open"} '
            assert float(text.split(moves)[1].split()[0]) >= 2
            refused = daemon.certeus("gap", "accept", "5..10", code=1)
            assert b"does not wait" in refused.stderr
            accepted = daemon.certeus("dead-letters", "accept", "--json")
            assert "accepted" in json.loads(accepted.stdout)["done"]
            assert daemon.stop() == 0
        finally:
            daemon.clean_up()
