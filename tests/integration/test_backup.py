"""Backups of a real ledger: made under load, verified, restored elsewhere, and started there."""

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

import certeus
from support.daemon import Daemon, scratch_dir
from support.postgres import installations, server
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
        seqs = list[int]()
        for ticket in range(first, last + 1):
            receipt = producer.receipt(ticket)
            assert receipt is not None
            assert receipt.seq is not None
            seqs.append(receipt.seq)
        return seqs


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


def expected(line: dict[str, Any]) -> bool:
    """Whether each start of an embedded server says it: everybody waits for that a moment."""
    message = str(line.get("message", ""))
    if line.get("severity") in ("DETAIL", "HINT"):  # Of the line before it.
        return "hot standby" in message or "recovery state" in message
    return line.get("code") == "postgres-away" or message.startswith("the database system is")


def alarming(daemon: Daemon) -> list[dict[str, Any]]:
    """What the daemon has logged that an operator would worry about."""
    lines = [json.loads(one) for one in daemon.log_path.read_text().splitlines()]
    starts = [one for one in lines if one["event"] == "log_recovered"]
    assert starts
    loud = [one for one in lines if one["level"] in ("warning", "error", "critical")]
    return [one for one in loud if not expected(one)] + [
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


def test_a_stopped_ledger_is_backed_up_with_its_database_as_files(root: Path) -> None:
    one = daemon_at(root / "one").start()
    two = daemon_at(root / "two")
    try:
        seqs = append(one, "first", 300)
        one.certeus("wait", "--flushed", "--timeout", "60")
        one.kill("all")
        made = told(one, "create", str(root / "b.tar"))
        assert made["postgres"]["method"] == "files"
        assert made["log"]["last_seq"] == 300
        key = str(one.state_dir / "keys" / "log.key")
        told(two, "restore", str(root / "b.tar"), "--key", key)
        two.start()
        assert append(two, "second", 10) == list(range(301, 311))
        two.certeus("wait", "--flushed", "--timeout", "60")
        assert [seq for seq, _ in rows(two.dsn())] == [*seqs, *range(301, 311)]
        # The ledger that was backed up is as it was.
        one.start()
        assert append(one, "third", 1) == [301]
        assert (one.stop(), two.stop()) == (0, 0)
    finally:
        one.clean_up()
        two.clean_up()


def test_a_create_that_is_killed_while_the_database_is_copied_disturbs_nobody(root: Path) -> None:
    one = daemon_at(root / "one").start()
    try:
        append(one, "before", 10)
        one.certeus("wait", "--flushed", "--timeout", "60")
        process = subprocess.Popen(
            [sys.executable, "-m", "certeusd.cli", "--runtime-dir", str(one.runtime_dir),
             "--state-dir", str(one.state_dir), "backup", "create", str(root / "b")],
            stderr=subprocess.PIPE,
        )  # fmt: skip
        staged = root / "b.partial" / "staging" / "postgres"
        wait_until("pg_basebackup", lambda: process.poll() is not None or staged.exists())
        copying = psutil.Process(process.pid).children()
        process.kill()
        process.communicate()
        wait_until("end of pg_basebackup", lambda: not any(one.is_running() for one in copying))
        assert not (root / "b").exists()
        assert append(one, "after", 10) == list(range(11, 21))
        told(one, "create", str(root / "b"))
        assert told(one, "verify", str(root / "b"))["ok"]
        assert [one.name for one in sorted(root.iterdir())] == ["b", "one"]
        assert one.stop() == 0
    finally:
        one.clean_up()


def test_a_restored_log_beside_a_newer_database_diverges_until_it_is_forked(root: Path) -> None:
    with server(sorted(installations().items())[-1][1]) as postgres:
        config = SMALL + f'[postgres]\ndsn = "{postgres.dsn()}"\n'
        one, two = daemon_at(root / "one", config), daemon_at(root / "two", config)
        try:
            one.start()
            append(one, "old", 50)
            one.certeus("wait", "--flushed", "--timeout", "60")
            made = told(one, "create", str(root / "b"), "--with-key")
            assert made["postgres"] == {
                "mode": "external", "method": "none", "version": "", "owner": "",
            }  # fmt: skip
            assert made["flush_position"]["seq"] <= 50
            append(one, "newer", 50)
            one.certeus("wait", "--flushed", "--timeout", "60")
            assert one.stop() == 0
            told(two, "restore", str(root / "b"))
            two.start()
            append(two, "restored", 70)
            wait_until("the reason", lambda: "diverged" in reasons(two))
            assert two.stop() == 0
            two.certeus("log", "fork", str(made["log_id"]))
            two.start()
            two.certeus("wait", "--flushed", "--timeout", "60")
            names = [name for _, name in rows(postgres.dsn())]
            wanted = [f"old-{at}" for at in range(50)] + [f"newer-{at}" for at in range(50)]
            assert sorted(names) == sorted(wanted + [f"restored-{at}" for at in range(70)])
            assert two.stop() == 0
        finally:
            one.clean_up()
            two.clean_up()


def reasons(daemon: Daemon) -> set[str]:
    return {one["code"] for one in daemon.status()["reasons"]}
