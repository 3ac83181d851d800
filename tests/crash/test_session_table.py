"""Each interleaving of the session protocol that simpler designs get wrong, with real processes.

The places where a process dies are failpoints (`daemon/src/failpoint.rs`); what must hold is always
the same: each event is in the log once, in order, and the producer is told each verdict.
"""

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import certeus
from support.daemon import Daemon, scratch_dir
from support.waiting import wait_until

pytestmark = pytest.mark.crash

CONFIG = '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n[worker]\ncount = %d\n'


@pytest.fixture
def scratch() -> Iterator[Path]:
    with scratch_dir() as root:
        yield root


def numbers(daemon: Daemon) -> list[int]:
    """The numbers of all events in the log, in log order."""
    done = daemon.certeus("tail", "-n", "1000000", "--json")
    return [json.loads(line)["data"]["n"] for line in done.stdout.splitlines()]


def append(producer: certeus.Producer, first: int, count: int) -> int:
    return producer.append_many("t", [{"n": n} for n in range(first, first + count)])


def drop_connections(daemon: Daemon) -> None:
    """This process gives its sessions up, as after a time-out of its own."""
    for name in os.listdir("/proc/self/fd"):
        try:
            connection = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        with connection:
            try:
                if connection.getpeername() == daemon.ingest:
                    connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue


def survives_failpoint(scratch: Path, name: str, workers: int = 1) -> Daemon:
    """Append 500 events while a process dies at the failpoint; all are logged once, in order."""
    flag = scratch / "flag"
    daemon = Daemon(scratch, CONFIG % workers, {"CERTEUS_FAILPOINT": f"{name}=3@{flag}"})
    try:
        daemon.start()
        with certeus.connect(daemon.ingest, source="table") as producer:
            last = 0
            for first in range(0, 500, 20):
                last = append(producer, first, 20)
                producer.wait_durable(last, timeout=30.0)
            statistics = producer.statistics()
        assert flag.exists(), f"nothing passed {name}"
        assert (statistics.accepted, statistics.duplicates) == (500, 0)
        assert numbers(daemon) == list(range(500))
        assert daemon.stop() == 0
    finally:
        daemon.clean_up()
    return daemon


@pytest.mark.parametrize(
    "name",
    [
        "worker-after-forward",
        "worker-after-verdicts",
        "worker-after-settled",
        "worker-after-head",
    ],
)
def test_worker_that_dies_after_forwarding_or_while_reporting_loses_and_doubles_nothing(
    scratch: Path, name: str
) -> None:
    survives_failpoint(scratch, name)


@pytest.mark.parametrize(
    "name",
    [
        "log-before-write",
        "log-after-write",
        "log-after-sync",
        "log-after-page",
        "log-after-verdicts",
        "log-after-head",
    ],
)
def test_log_writer_that_dies_around_its_sync_or_publication_loses_and_doubles_nothing(
    scratch: Path, name: str
) -> None:
    survives_failpoint(scratch, name)


def test_paused_worker_that_wakes_after_a_resume_elsewhere_adds_nothing(scratch: Path) -> None:
    daemon = Daemon(scratch, CONFIG % 2)
    try:
        daemon.start()
        with certeus.connect(daemon.ingest, source="table") as producer:
            producer.wait_durable(append(producer, 0, 10), timeout=30.0)
            holder = next(
                row["pid"] for row in daemon.get("/v1/workers")["workers"]
                if row["role"] == "worker" and row["counters"]["sessions"]
            )  # fmt: skip
            os.kill(holder, signal.SIGSTOP)
            try:
                append(producer, 10, 90)
                drop_connections(daemon)
                last = append(producer, 100, 100)
                producer.wait_durable(last, timeout=30.0)
            finally:
                os.kill(holder, signal.SIGCONT)
            # Its session was superseded: what it still forwards has an epoch that is over.
            wait_until("the end of the old session", lambda: not holds_session(daemon, holder))
            assert producer.statistics().duplicates == 0
        assert numbers(daemon) == list(range(200))
        assert daemon.stop() == 0
    finally:
        daemon.clean_up()


def holds_session(daemon: Daemon, pid: int) -> bool:
    rows = daemon.get("/v1/workers")["workers"]
    return any(row["pid"] == pid and row["counters"]["sessions"] for row in rows)


def test_epoch_that_was_told_but_never_logged_may_come_again(scratch: Path) -> None:
    daemon = Daemon(scratch, CONFIG % 2)
    try:
        daemon.start()
        with certeus.connect(daemon.ingest, source="table") as producer:
            producer.wait_durable(append(producer, 0, 50), timeout=30.0)
            reconnects = producer.statistics().reconnects
            drop_connections(daemon)
            append(producer, 50, 1)
            wait_until("new session", lambda: producer.statistics().reconnects > reconnects)
            daemon.kill("log")
            producer.wait_durable(append(producer, 51, 49), timeout=30.0)
        assert numbers(daemon) == list(range(100))
        assert daemon.stop() == 0
    finally:
        daemon.clean_up()


def test_hundred_duplicates_before_the_log_writer_dies_are_no_sequence_gap(scratch: Path) -> None:
    daemon = Daemon(scratch, CONFIG % 1)
    try:
        daemon.start()
        with certeus.connect(daemon.ingest, source="first") as producer:
            producer.wait_durable(producer.append("t", {"n": 0}, id="same"), timeout=30.0)
        with certeus.connect(daemon.ingest, source="first") as producer:
            last = 0
            for _ in range(100):
                last = producer.append("t", {"n": 0}, id="same")
            producer.wait_durable(last, timeout=30.0)
            assert producer.statistics().duplicates == 100
            daemon.kill("log")
            producer.wait_durable(append(producer, 1, 10), timeout=30.0)
            statistics = producer.statistics()
            assert (statistics.duplicates, statistics.accepted) == (100, 10)
        assert numbers(daemon) == list(range(11))
        assert daemon.stop() == 0
    finally:
        daemon.clean_up()


def test_hundred_rejections_before_the_log_writer_dies_stay_rejected(scratch: Path) -> None:
    daemon = Daemon(scratch, CONFIG % 1)
    try:
        daemon.start()
        with certeus.connect(daemon.ingest, source="table") as producer:
            tickets = [producer.append("t", b"{bad") for _ in range(100)]
            with pytest.raises(certeus.RejectedError) as caught:
                producer.wait_durable(tickets[-1], timeout=30.0)
            assert [rejection.ticket for rejection in caught.value.rejections] == tickets
            daemon.kill("log")
            producer.wait_durable(append(producer, 0, 10), timeout=30.0)
            assert producer.statistics().rejected == 100
        assert numbers(daemon) == list(range(10))
        assert daemon.stop() == 0
    finally:
        daemon.clean_up()


@pytest.mark.parametrize("target", ["supervisor", "all"])
def test_producer_outlives_supervisor_and_everything(scratch: Path, target: str) -> None:
    daemon = Daemon(scratch, CONFIG % 1)
    try:
        daemon.start()
        with certeus.connect(daemon.ingest, source="table") as producer:
            producer.wait_durable(append(producer, 0, 100), timeout=30.0)
            append(producer, 100, 100)
            daemon.kill(target)
            append(producer, 200, 100)
            daemon.start()
            producer.wait_durable(append(producer, 300, 100), timeout=30.0)
        assert numbers(daemon) == list(range(400))
        assert daemon.stop() == 0
    finally:
        daemon.clean_up()
