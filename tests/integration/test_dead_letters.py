"""`certeus dead-letters` against a whole daemon: what an admin sees, orders, and may not."""

import asyncio
import json
import os
import signal
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from functools import partial

import asyncpg
import pytest

import certeus
from support.daemon import Daemon, running, scratch_dir
from support.failpoints import Flags
from support.postgres import installations, server
from support.waiting import wait_until

pytestmark = pytest.mark.integration

REFUSE = "ALTER TABLE certeus.events ADD CONSTRAINT odd CHECK (ticket > 5)"
ALLOW = "ALTER TABLE certeus.events DROP CONSTRAINT odd"
CONFIG = '[postgres]\ndsn = "{}"\ndead_letters_percent_max = 100.0\n'
KILL_POINTS = (
    "flush-before-begin",
    "flush-after-begin",
    "flush-before-copy",
    "flush-after-copy",
    "flush-before-commit",
    "flush-after-commit",
)
PLACES = """
    SELECT seq FROM certeus.events UNION ALL SELECT seq FROM certeus.dead_letters UNION ALL
    SELECT generate_series(first_seq, last_seq) FROM certeus.gaps ORDER BY seq
"""


@contextmanager
def daemon_with(flags: bool = False) -> Generator[tuple[Daemon, str, Flags | None]]:
    """A daemon with a server of its own, and five dead letters of seq 1..5; its server's DSN."""
    newest = sorted(installations().items())[-1][1]
    with ExitStack() as stack:
        dsn = stack.enter_context(server(newest)).dsn()
        root = stack.enter_context(scratch_dir())
        armed = Flags(root / "flags") if flags else None
        daemon = Daemon(root, CONFIG.format(dsn), armed.environment() if armed else None)
        stack.callback(daemon.clean_up)
        daemon.start()
        wait_until("schema", lambda: daemon.status()["postgres"]["connected"])
        execute(dsn, REFUSE)
        append(daemon, 10)
        yield daemon, dsn, armed
        assert daemon.stop() == 0


def append(daemon: Daemon, count: int) -> None:
    with certeus.connect(daemon.ingest, source="letters") as producer:
        ticket = producer.append_many("t", [{"n": n} for n in range(count)])
        producer.wait_durable(ticket, timeout=30.0)
    daemon.certeus("wait", "--flushed", "--timeout", "30")


def column(dsn: str, sql: str) -> list[object]:
    async def run() -> list[object]:
        connection = await asyncpg.connect(dsn)
        try:
            return [row[0] for row in await connection.fetch(sql)]
        finally:
            await connection.close()

    return asyncio.run(run())


def execute(dsn: str, sql: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(sql)
        finally:
            await connection.close()

    asyncio.run(run())


def is_another(daemon: Daemon, old: int) -> bool:
    """Whether the flusher is not that one any more."""
    return daemon.pids("flush") not in ([], [old])


def codes(daemon: Daemon) -> set[str]:
    return {reason["code"] for reason in daemon.status()["reasons"]}


def test_letters_are_listed_tried_again_and_dropped_and_status_follows() -> None:
    with daemon_with() as (daemon, dsn, _):
        wait_until("reason", lambda: "dead-letters" in codes(daemon))
        shown = daemon.certeus("dead-letters", "ls", "--limit", "2").stdout.decode()
        assert "23514" in shown
        assert 'constraint "odd"' in shown
        assert shown.count("letters") == 2
        whole = json.loads(daemon.certeus("dead-letters", "ls", "--limit", "3", "--json").stdout)
        assert [one["event"]["data"] for one in whole["dead_letters"]] == [
            {"n": n} for n in range(3)
        ]
        assert (whole["schema_version"], whole["next_seq"]) == (1, 4)
        none = daemon.certeus("dead-letters", "ls", "--after-seq", "5", "--json").stdout
        assert json.loads(none) == {"schema_version": 1, "dead_letters": [], "next_seq": None}
        # Not corrected: they stay, and the exit code says so.
        told = daemon.certeus("dead-letters", "retry", "--all", "--json", code=1).stdout
        assert json.loads(told) == {"schema_version": 1, "delivered": 0, "refused": 5}
        assert b"--yes" in daemon.certeus("dead-letters", "drop", "1..1", code=75).stderr
        execute(dsn, ALLOW)
        assert daemon.certeus("dead-letters", "retry", "2..4").stdout.startswith(b"3 delivered, 0")
        rows_before = daemon.status()["processes"][1]["counters"]["rows_total"]
        assert rows_before == 8
        assert b"1 dropped" in daemon.certeus("dead-letters", "drop", "1..4", "--yes").stdout
        assert column(dsn, "SELECT reason FROM certeus.gaps") == [f"dropped by uid {os.getuid()}"]
        assert "dead-letters" in codes(daemon)
        daemon.certeus("dead-letters", "retry", "--all")
        wait_until("reason that is gone", lambda: "dead-letters" not in codes(daemon))
        assert column(dsn, PLACES) == list(range(1, 11))
        audit = daemon.log_path.read_text()
        assert "/v1/dead-letters-drop" in audit


@pytest.mark.timeout(300)
def test_a_flusher_that_dies_anywhere_in_a_retry_leaves_each_event_in_one_place() -> None:
    with daemon_with(flags=True) as (daemon, dsn, flags):
        assert flags is not None
        execute(dsn, ALLOW)
        for name in KILL_POINTS:
            wait_until("delivery", lambda: daemon.status()["postgres"]["connected"])
            (old,) = daemon.pids("flush")
            flags.arm(name)
            told = daemon.certeus("dead-letters", "retry", "3..3", code=75).stderr
            assert b"whole or not at all" in told, name
            assert flags.is_hit(name)
            wait_until("another flusher", partial(is_another, daemon, old))
            assert column(dsn, PLACES) == list(range(1, 11)), name
            # Dead before the COMMIT: still a letter. Behind it: a row.
            dead = column(dsn, "SELECT seq FROM certeus.dead_letters ORDER BY seq")
            assert (3 in dead) is (name != "flush-after-commit"), name
        flags.arm("flush-before-commit")
        wait_until("delivery", lambda: daemon.status()["postgres"]["connected"])
        daemon.certeus("dead-letters", "drop", "1..2", "--yes", code=75)
        assert column(dsn, PLACES) == list(range(1, 11))
        assert column(dsn, "SELECT first_seq FROM certeus.gaps") == []
        wait_until("delivery", lambda: daemon.status()["postgres"]["connected"])
        daemon.certeus("dead-letters", "retry", "--all")
        assert column(dsn, "SELECT seq FROM certeus.events ORDER BY seq") == list(range(1, 11))


def test_without_a_flusher_or_a_server_the_answer_is_75_and_says_what_to_do() -> None:
    with daemon_with() as (daemon, dsn, _):
        daemon.certeus("flush", "pause")
        told = daemon.certeus("dead-letters", "ls", code=75).stderr
        assert b"certeus flush resume" in told
        daemon.certeus("flush", "resume")
        daemon.certeus("wait", "--flushed", "--timeout", "30")
        (flusher,) = daemon.pids("flush")
        os.kill(flusher, signal.SIGSTOP)
        try:
            told = daemon.certeus("dead-letters", "retry", "--all", code=75).stderr
            assert b"whole or not at all" in told
        finally:
            os.kill(flusher, signal.SIGCONT)
        assert column(dsn, PLACES) == list(range(1, 11))
    with running('[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n') as daemon:
        told = daemon.certeus("dead-letters", "ls", code=75).stderr
        assert b"cannot reach the server" in told
        assert b"is the server running" in told.lower()


@pytest.mark.parametrize(
    "arguments",
    [["retry"], ["retry", "1..2", "--all"], ["retry", "2..1"], ["drop"], ["drop", "x", "--yes"],
     ["ls", "--limit", "0"], ["ls", "--after-seq", "-1"]],
)  # fmt: skip
def test_what_is_no_range_is_a_usage_error(arguments: list[str]) -> None:
    with scratch_dir() as root:
        told = Daemon(root).certeus("dead-letters", *arguments, code=2).stderr
        assert b"Usage" in told or b"Error" in told
