"""Backups of a real ledger: made under load, verified, restored elsewhere, and started there."""

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

import certeus
from support.daemon import Daemon, scratch_dir
from support.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

SMALL = """
[log]
segment_bytes = "4MiB"
"""
# Codes that a restored ledger must not show at its start.
QUIET = {"postgres-away"}


@pytest.fixture
def root() -> Iterator[Path]:
    with scratch_dir() as folder:
        yield folder


def daemon_at(folder: Path, config: str = SMALL) -> Daemon:
    folder.mkdir()
    return Daemon(folder, config)


def append(daemon: Daemon, name: str, count: int) -> list[int]:
    """The numbers that the log gave to new events, in their order."""
    with certeus.connect(daemon.ingest, source=name) as producer:
        first = producer.append("t", {"n": f"{name}-0"})
        rest = [{"n": f"{name}-{at}"} for at in range(1, count)]
        last = producer.append_many("t", rest) if rest else first
        producer.wait_durable(last, timeout=60.0)
        receipts = [producer.receipt(ticket) for ticket in range(first, last + 1)]
        assert all(receipts)
        return [one.seq for one in receipts if one is not None and one.seq is not None]


def rows(dsn: str) -> list[tuple[int, str]]:
    """Number and name of every row, in the order of the log."""

    async def run() -> list[tuple[int, str]]:
        connection = await asyncpg.connect(dsn)
        try:
            found = await connection.fetch(
                "SELECT seq, data->>'n' AS n FROM certeus.events ORDER BY seq"
            )
            for table in ("gaps", "dead_letters"):
                assert await connection.fetchval(f"SELECT count(*) FROM certeus.{table}") == 0
            return [(row["seq"], row["n"]) for row in found]
        finally:
            await connection.close()

    return asyncio.run(run())


def told(daemon: Daemon, *arguments: str, code: int = 0) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(
        daemon.certeus("backup", *arguments, "--json", code=code).stdout
    )
    return answer


class Load:
    """Producers that append without an end, each remembering what it was told."""

    def __init__(self, daemon: Daemon, count: int = 2) -> None:
        self._daemon = daemon
        self._stop = threading.Event()
        self.known: dict[int, str] = {}
        self.failed: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run, args=(at,)) for at in range(count)]
        for one in self._threads:
            one.start()

    def _run(self, number: int) -> None:
        try:
            with certeus.connect(self._daemon.ingest, source=f"load-{number}") as producer:
                at = 0
                while not self._stop.is_set():
                    names = [f"load-{number}-{at + more}" for more in range(200)]
                    last = producer.append_many("t", [{"n": n, "pad": "x" * 200} for n in names])
                    producer.wait_durable(last, timeout=60.0)
                    for more, name in enumerate(names):
                        receipt = producer.receipt(last - len(names) + 1 + more)
                        assert receipt is not None
                        assert receipt.seq is not None
                        self.known[receipt.seq] = name
                    at += len(names)
        except BaseException as error:
            self.failed.append(error)

    def end(self) -> None:
        self._stop.set()
        for one in self._threads:
            one.join(60)
        assert not self.failed, self.failed


def alarming(daemon: Daemon) -> list[dict[str, Any]]:
    """What the daemon has logged that an operator would worry about."""
    lines = [json.loads(one) for one in daemon.log_path.read_text().splitlines()]
    starts = [one for one in lines if one["event"] == "log_recovered"]
    assert starts
    loud = [one for one in lines if one["level"] in ("warning", "error", "critical")]
    # Each start of an embedded server waits for that a moment.
    quiet = ("code", "postgres-away"), ("message", "the database system is starting up")
    return [one for one in loud if not any(one.get(k) == v for k, v in quiet)] + [
        one for one in starts if one["label"] not in ("clean", "new") or one["gaps"]
    ]


@pytest.mark.parametrize("form", ["backup", "backup.tar"])
def test_a_backup_under_load_restores_every_event_that_was_durable_before_it(
    root: Path, form: str
) -> None:
    one = daemon_at(root / "one").start()
    try:
        append(one, "before", 500)
        one.certeus("wait", "--flushed", "--timeout", "60")
        load = Load(one)
        try:
            wait_until("load", lambda: load.failed or len(load.known) >= 8_000)
            before = dict(load.known)
            made = told(one, "create", str(root / form), "--with-key")
        finally:
            load.end()
        assert made["postgres"]["method"] == "pg_basebackup"
        assert made["log"]["last_seq"] >= max(before)
        assert not list(root.glob("*.partial*"))
        assert told(one, "verify", str(root / form))["ok"]
        assert one.stop() == 0
    finally:
        one.clean_up()
    two = daemon_at(root / "two")
    try:
        done = told(two, "restore", str(root / form))
        assert done["findings"] == []
        two.start()
        last = made["log"]["last_seq"]
        assert two.status()["durable_seq"] == last
        new = append(two, "after", 100)
        assert new == list(range(last + 1, last + 101)), "new events get the next numbers"
        two.certeus("wait", "--flushed", "--timeout", "60")
        found = dict(rows(two.dsn()))
        assert sorted(found) == list(range(1, last + 101)), "each number once"
        told_names = {**before, **{seq: name for seq, name in load.known.items() if seq <= last}}
        assert {seq: found[seq] for seq in told_names} == told_names
        assert {one["code"] for one in two.status()["reasons"]} <= QUIET
        assert alarming(two) == []
        assert two.certeus("log", "check").returncode == 0
        assert two.stop() == 0
    finally:
        two.clean_up()
