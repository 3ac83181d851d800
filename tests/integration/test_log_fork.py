"""One log twice against one PostgreSQL: one of them stops, and a new name lets it go on."""

import asyncio
import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

import certeus
from support.daemon import Daemon, scratch_dir
from support.postgres import Server, installations, server
from support.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]


@pytest.fixture
def postgres() -> Iterator[Server]:
    with server(sorted(installations().items())[-1][1]) as running:
        yield running


@pytest.fixture
def root() -> Iterator[Path]:
    with scratch_dir() as folder:
        yield folder


def daemon_at(folder: Path, postgres: Server) -> Daemon:
    folder.mkdir(exist_ok=True)
    return Daemon(folder, f'[postgres]\ndsn = "{postgres.dsn()}"\n')


def append(daemon: Daemon, name: str, count: int) -> str:
    """Append events that no other call appends, and return the id of the log that took them."""
    with certeus.connect(daemon.ingest, source=name) as producer:
        ticket = producer.append_many("t", [{"n": f"{name}-{at}"} for at in range(count)])
        producer.wait_durable(ticket, timeout=60.0)
        receipt = producer.receipt(ticket)
        assert receipt is not None
        return receipt.log_id


def ask(postgres: Server, question: str) -> list[asyncpg.Record]:
    async def run() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(postgres.dsn())
        try:
            return list(await connection.fetch(question))
        finally:
            await connection.close()

    return asyncio.run(run())


def rows(postgres: Server) -> list[str]:
    return [
        row["n"]
        for row in ask(
            postgres,
            "SELECT data->>'n' AS n FROM certeus.events WHERE type = 't' ORDER BY log_id, seq",
        )
    ]


def names(name: str, count: int) -> list[str]:
    return [f"{name}-{at}" for at in range(count)]


def codes(daemon: Daemon) -> set[str]:
    return {reason["code"] for reason in daemon.status()["reasons"]}


def flushed(daemon: Daemon) -> None:
    daemon.certeus("wait", "--flushed", "--timeout", "60")


def diverged_copy(root: Path, postgres: Server) -> tuple[Daemon, Daemon, str]:
    """A log that went on, and a copy of its beginning that did too; both know what is where."""
    one, two = daemon_at(root / "one", postgres), daemon_at(root / "two", postgres)
    one.start()
    log_id = append(one, "common", 300)
    append(one, "more", 5)
    flushed(one)
    assert one.stop() == 0
    shutil.copytree(one.state_dir, two.state_dir, symlinks=True)
    one.start()
    append(one, "one", 200)
    flushed(one)
    two.start()
    append(two, "two", 150)
    wait_until("the reason", lambda: "diverged" in codes(two))
    return one, two, log_id


def test_a_copy_diverges_and_goes_on_under_a_new_name_with_each_event_once(
    root: Path, postgres: Server
) -> None:
    one, two, log_id = diverged_copy(root, postgres)
    try:
        common = names("common", 300) + names("more", 5)
        assert rows(postgres) == common + names("one", 200), "nothing of the copy is delivered"
        reason = next(r for r in two.status()["reasons"] if r["code"] == "diverged")
        assert f"certeus log fork {log_id}" in reason["next"]
        busy = two.certeus("log", "fork", log_id, code=75)
        assert f"pid {two.pids('supervisor')[0]}" in busy.stderr.decode()
        assert two.stop() == 0
        other = two.certeus("log", "fork", str(uuid.uuid4()), code=1)
        assert log_id in other.stderr.decode()
        told = json.loads(two.certeus("log", "fork", log_id, "--json").stdout)
        assert told["forked_from"] == log_id
        two.start()
        assert append(two, "late", 10) == told["log_id"], "producers are told the new name"
        flushed(two)
        assert two.status()["log_id"] == told["log_id"]
        append(one, "again", 20)
        flushed(one)
        found = rows(postgres)
        ours = names("one", 200) + names("again", 20)
        assert found == common + ours + names("two", 150) + names("late", 10)
        assert [row["uuid"] for row in ask(postgres, "SELECT uuid FROM certeus.logs ORDER BY 1")]
        assert ask(postgres, "SELECT count(*) AS n FROM certeus.gaps")[0]["n"] == 0
        # A name that it had is not one that it has.
        assert two.stop() == 0
        assert two.certeus("log", "fork", log_id, code=1).returncode == 1
        assert two.certeus("log", "check").returncode == 0
        two.start()
        flushed(two)
        assert len(rows(postgres)) == len(found), "a start delivers nothing again"
        assert (two.stop(), one.stop()) == (0, 0)
    finally:
        one.clean_up()
        two.clean_up()


def test_a_state_directory_put_back_from_a_backup_diverges_and_doubles_nothing(
    root: Path, postgres: Server
) -> None:
    daemon = daemon_at(root / "one", postgres)
    try:
        daemon.start()
        log_id = append(daemon, "old", 100)
        flushed(daemon)
        assert daemon.stop() == 0
        shutil.copytree(daemon.state_dir, root / "backup", symlinks=True)
        daemon.start()
        append(daemon, "lost", 100)
        flushed(daemon)
        assert daemon.stop() == 0
        shutil.rmtree(daemon.state_dir)
        (root / "backup").rename(daemon.state_dir)
        daemon.start()
        append(daemon, "new", 250)
        wait_until("the reason", lambda: "diverged" in codes(daemon))
        assert rows(postgres) == names("old", 100) + names("lost", 100)
        assert daemon.stop() == 0
        daemon.certeus("log", "fork", log_id)
        daemon.start()
        flushed(daemon)
        everything = names("old", 100) + names("lost", 100) + names("new", 250)
        assert rows(postgres) == everything
        doubled = "SELECT 1 FROM certeus.events GROUP BY log_id, seq HAVING count(*) > 1"
        assert ask(postgres, doubled) == [], "no number means two events"
        assert daemon.stop() == 0
    finally:
        daemon.clean_up()
