"""Users of the api that mean ill: what they do costs themselves, and nobody else."""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import certeus
from support.api_asking import ask
from support.api_crowd import crowd
from support.as_user import as_user
from support.daemon import Daemon, running
from support.waiting import wait_until

pytestmark = [
    pytest.mark.crash,
    pytest.mark.integration,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="is several users"),
]

APPENDER, OTHER, STRANGER = 40_001, 40_002, 40_003
CONFIG = f"""\
[postgres]
dsn = "postgresql://nobody@/none?host=/nonexistent"
[api]
uids = [0, {APPENDER}, {OTHER}]
"""
CONNECTIONS = 10_000
ANSWER_S_MAX = 15.0
"""Of one request of somebody else; it takes milliseconds where there is no crowd."""
REQUESTS = 40
EVENTS = 2_000
WAIT_S = 60.0
BYTES_MAX = 512 * 1024 * 1024


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with running(CONFIG, doors=["api"]) as daemon:
        yield daemon
        assert daemon.stop() == 0
        log = daemon.log_path.read_text().splitlines()
        assert [line for line in log if "Traceback" in line or "api_request_failed" in line] == []


def appended(path: Path) -> str:
    """What happens to the requests of a user: the slowest one's seconds, or what went wrong."""
    slowest = 0.0
    for n in range(REQUESTS):
        begun = time.monotonic()
        answer = ask(
            path, "/v1/ledger/events?type=t&source=other", method="POST",
            body=b'{"n": %d}' % n, headers={"Content-Type": "application/json"},
        )  # fmt: skip
        slowest = max(slowest, time.monotonic() - begun)
        if answer.status != 200 or answer.json["accepted"] != 1:
            return f"{answer.status} {answer.body!r}"
    return f"{slowest:.3f}"


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.mark.parametrize("crowds", [(APPENDER,), (STRANGER,), (APPENDER, STRANGER)], ids=str)
def test_ten_thousand_connections_keep_nobody_else_out(
    daemon: Daemon, crowds: tuple[int, ...]
) -> None:
    path = daemon.runtime_dir / "api.sock"
    (pid,) = daemon.pids("api")
    assert float(as_user(OTHER, OTHER, lambda: appended(path))) < ANSWER_S_MAX
    before = descriptors(pid)
    with ExitStack() as there:
        for uid in crowds:
            there.enter_context(crowd(path, uid, CONNECTIONS))
        with certeus.connect(daemon.ingest, source="library") as producer:

            def produce() -> None:
                last = producer.append_many("t", [b"{}"] * EVENTS)
                producer.wait_durable(last, timeout=WAIT_S)

            producing = threading.Thread(target=produce)
            producing.start()
            took = as_user(OTHER, OTHER, lambda: appended(path))
            producing.join(WAIT_S)
            assert not producing.is_alive()
            assert producer.statistics().settled == EVENTS
        assert float(took) < ANSWER_S_MAX
        assert daemon.status()["state"] in ("ready", "degraded")
        assert resident_bytes(pid) < BYTES_MAX
    assert daemon.pids("api") == [pid]
    wait_until("its descriptors", lambda: descriptors(pid) <= before + 8, WAIT_S)


def test_a_kill_in_the_middle_of_a_crowd_is_survived(daemon: Daemon) -> None:
    path = daemon.runtime_dir / "api.sock"
    with crowd(path, APPENDER, CONNECTIONS):
        for _ in range(3):
            daemon.kill("api")
            assert float(as_user(OTHER, OTHER, lambda: appended(path))) < ANSWER_S_MAX
