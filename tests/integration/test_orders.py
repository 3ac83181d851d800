"""What an operator orders of a running daemon: a pause of the delivery, a new worker, more log."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import certeus
from support.daemon import Daemon, running
from support.postgres import installations, server
from support.waiting import wait_until

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    newest = sorted(installations().items())[-1][1]
    with ExitStack() as stack:
        postgres = stack.enter_context(server(newest))
        daemon = stack.enter_context(running(f'[postgres]\ndsn = "{postgres.dsn()}"\n'))
        yield daemon
        assert daemon.stop() == 0


def append(daemon: Daemon, count: int) -> None:
    with certeus.connect(daemon.ingest, source="orders") as producer:
        ticket = producer.append_many("t", [{"n": n} for n in range(count)])
        producer.wait_durable(ticket, timeout=30.0)


def codes(daemon: Daemon) -> set[str]:
    return {reason["code"] for reason in daemon.status()["reasons"]}


def test_a_paused_delivery_holds_everything_until_it_is_resumed(daemon: Daemon) -> None:
    append(daemon, 10)
    daemon.certeus("wait", "--flushed", "--timeout", "30")
    told = daemon.certeus("flush", "pause").stdout
    assert b"paused" in told
    assert daemon.pids("flush") == []
    append(daemon, 100)
    status = daemon.status()
    assert status["durable_seq"] - status["flushed_seq"] == 100
    assert "flush-paused" in codes(daemon)
    assert not status["postgres"]["connected"]
    # Neither twice nor a reload starts it.
    daemon.certeus("flush", "pause")
    daemon.config_path.write_text(daemon.config_path.read_text() + "batch_ms = 20\n")
    daemon.certeus("reload")
    assert daemon.pids("flush") == []
    daemon.certeus("flush", "resume")
    daemon.certeus("wait", "--flushed", "--timeout", "30")
    assert daemon.status()["lag_events"] == 0
    assert "flush-paused" not in codes(daemon)
    assert b"not paused" in daemon.certeus("flush", "resume", code=1).stderr


def test_a_worker_begins_anew_under_its_producers(daemon: Daemon) -> None:
    with certeus.connect(daemon.ingest, source="worker") as producer:
        producer.wait_durable(producer.append("t", {"n": 1}), timeout=30.0)
        (old,) = daemon.pids("worker")
        answer = json.loads(daemon.certeus("workers", "restart", "0", "--json").stdout)
        assert answer["done"] == "worker 0 began anew"
        (new,) = daemon.pids("worker")
        assert new != old
        producer.wait_durable(producer.append("t", {"n": 2}), timeout=30.0)
    (row,) = daemon.get("/v1/workers")["workers"]
    assert row["restarts"] == 0
    assert b"no worker 7" in daemon.certeus("workers", "restart", "7", code=1).stderr


def test_the_level_of_the_log_is_raised_for_a_while(daemon: Daemon) -> None:
    def lines(word: str) -> int:
        return daemon.log_path.read_text().count(word)

    told = daemon.certeus("log-level", "error", "--module", "worker", "--for", "2s").stdout
    assert told == b"worker: error, for 2 s\n"
    daemon.certeus("log-level", "debug", "--module", "supervisor")
    before = lines("log_writer_attached")

    def attached_again() -> bool:
        daemon.certeus("workers", "restart", "0")
        return lines("log_writer_attached") > before

    assert not attached_again()
    assert lines("pair_made")
    wait_until("its lines, after two seconds", attached_again)
    daemon.certeus("log-level", "info")
    daemon.certeus("log-level", "loud", code=2)
    assert b"90s, 10m or 2h" in daemon.certeus("log-level", "info", "--for", "soon", code=2).stderr


def test_the_doctor_looks_at_the_daemon_the_host_and_the_server(daemon: Daemon) -> None:
    told = json.loads(daemon.certeus("doctor", "--json").stdout)
    found = {one["check"]: one for one in told["findings"]}
    assert told["problems"] == 0
    assert {"affinity", "memlock", "clock source", "clock", "file system", "disk sync", "disk room",
            "sockets", "descriptors", "postgres"} <= set(found)  # fmt: skip
    assert "p99" in found["disk sync"]["what"]
    assert found["postgres"]["level"] != "skipped"
    assert not list(daemon.state_dir.glob("*.tmp"))
    assert b"disk sync" in daemon.certeus("doctor").stdout


def test_the_doctor_does_without_a_daemon(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    alone = Daemon(tmp_path)
    told = json.loads(alone.certeus("doctor", "--json").stdout)
    levels = {one["check"]: one["level"] for one in told["findings"]}
    assert levels["daemon"] == levels["postgres"] == "skipped"
    assert "disk sync" in levels
