"""`certeus top` and `GET /v1/producers` of a real daemon at work."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from support.daemon import Daemon, running
from support.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

AWAY = """
[worker]
count = 2
[postgres]
dsn = "postgresql://nobody@/none?host=/nonexistent"
"""
PRODUCER = """
import sys, certeus
with certeus.connect(sys.argv[1], source=sys.argv[2]) as producer:
    while True:
        producer.append_many("t", [{"n": n} for n in range(50)])
        producer.append("t", b"{")
        producer.append("t", 1, id="same", subject=str(producer.statistics().appended))
"""


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with running(AWAY) as daemon:
        yield daemon
        assert daemon.stop() == 0


@contextmanager
def load(daemon: Daemon, count: int) -> Generator[list[int]]:
    """So many processes that append, some of it what is rejected; their numbers."""
    processes = [
        subprocess.Popen([sys.executable, "-c", PRODUCER, daemon.ingest, f"load/{at}"])
        for at in range(count)
    ]
    try:
        wait_until("everybody's events", lambda: busy(daemon) == count, 60.0)
        yield [one.pid for one in processes]
    finally:
        for one in processes:
            one.kill()
            one.wait()


def busy(daemon: Daemon) -> int:
    rows = daemon.get("/v1/producers")["producers"]
    return sum(one["settled_total"] > 0 and len(one["rejected"]) == 2 for one in rows)


def top(daemon: Daemon, *arguments: str) -> Any:  # noqa: ANN401 - JSON
    return json.loads(daemon.certeus("top", "--once", "--json", *arguments).stdout)


def test_producers_are_told_as_they_are(daemon: Daemon) -> None:
    with load(daemon, 3) as pids:
        rows = daemon.get("/v1/producers")["producers"]
        assert {one["pid"] for one in rows} == set(pids)
        assert {one["source"] for one in rows} == {"load/0", "load/1", "load/2"}
        for one in rows:
            assert one["uid"] == os.getuid()
            assert set(one["rejected"]) == {"invalid-json", "id-conflict"}
            assert 0 < one["settled_total"] <= one["events_total"]
            assert 0 <= one["ring_used_bytes"] <= one["ring_bytes"]
            assert sum(one["ack_ns_buckets"]) == one["settled_total"]
            assert 0 < one["ack_p50_seconds"] <= one["ack_p99_seconds"]
        printed = json.loads(daemon.certeus("producers", "--json").stdout)
        assert {one["pid"] for one in printed["producers"]} == set(pids)
        assert b"load/2" in daemon.certeus("producers").stdout


def test_rates_are_those_of_what_was_appended(daemon: Daemon) -> None:
    with load(daemon, 2):
        before = daemon.status()["durable_seq"]
        seen = top(daemon)
        after = daemon.status()["durable_seq"]
        assert seen["schema_version"] == 1
        of_producers = sum(one["events_per_second"] for one in seen["producers"])
        of_workers = sum(one["events_per_second"] for one in seen["workers"])
        # What is rejected has no seq, and both have their moments: the order is what is held.
        upper = 2 * (after - before) / seen["interval_seconds"]
        assert 0 < of_producers < upper
        assert 0 < of_workers < upper
        stages = {one["stage"]: one for one in seen["stages"]}
        assert list(stages) == ["ingest", "validate", "commit", "deliver"]
        commit = stages["commit"]
        assert commit["p99_seconds"] > 0
        assert sum(one["rejected"].get("invalid-json", 0) for one in seen["workers"]) > 0
        assert all(one["rejected_per_second"] > 0 for one in seen["producers"])
        assert all(one["ack_p99_seconds"] > 0 for one in seen["producers"])
        (postgres,) = seen["followers"]
        assert postgres["lag_events"] > 0
        assert postgres["state"] != "connected"


def test_a_stopped_worker_is_named_and_a_killed_one_is_replaced(daemon: Daemon) -> None:
    with load(daemon, 8):
        (stopped,) = daemon.kill("worker1", signal.SIGSTOP)
        try:
            answer = daemon.get("/v1/producers")
            assert answer["unanswered"] == ["worker-1"]
            assert {one["worker"] for one in answer["producers"]} <= {0}
            seen = top(daemon)
            assert seen["unanswered"] == ["worker-1"]
            assert [one["state"] for one in seen["workers"]] == ["ready", "no-answer"]
            assert b"no answer from worker-1" in daemon.certeus("top", "--once").stdout
        finally:
            os.kill(stopped, signal.SIGKILL)
        wait_until("everybody again", lambda: busy(daemon) == 8, 60.0)
        seen = top(daemon)
        assert seen["unanswered"] == []
        assert [one["restarts"] for one in seen["workers"]] == [0, 1]
        rates = [one["events_per_second"] for one in seen["producers"]]
        assert all(one is None or one >= 0 for one in rates)


def test_a_real_terminal_is_left_as_it_was(daemon: Daemon) -> None:
    """Through a daemon's death and next life, and Ctrl-C."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm-256color", COLUMNS="80", LINES="24")
        os.execv(sys.executable, [sys.executable, "-m", "certeusd.cli", "--runtime-dir",
                                  str(daemon.runtime_dir), "top"])  # fmt: skip
    shown = bytearray()

    def says(words: bytes) -> bool:
        """Read what there is; what was drawn may be in pieces, so only whole words are asked."""
        while select.select([terminal], [], [], 0)[0]:
            with suppress(OSError):
                if data := os.read(terminal, 65536):
                    shown.extend(data)
                    continue
            break
        return words in shown

    try:
        wait_until("the first screen", lambda: says(b"followers"), 60.0)
        assert b"\x1b[?1049h" in shown, "the other screen of the terminal"
        daemon.kill("all")
        wait_until("the bad news", lambda: says(b"not reachable"), 60.0)
        shown.clear()
        daemon.start()
        wait_until("the next life", lambda: says(b"degraded"), 60.0)
        os.write(terminal, b"\x03")
        wait_until("the end", lambda: says(b"\x1b[?1049l"), 60.0)
        assert b"Traceback" not in shown
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        pid = 0
    finally:
        if pid:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(terminal)
