"""`certeus reload` with the whole daemon: it holds, or nothing has changed; producers go on."""

import json
import signal
from collections.abc import Iterator

import pytest

import certeus
from certeus import Producer
from support.daemon import Daemon, running
from support.waiting import wait_until

pytestmark = pytest.mark.integration

AWAY = '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n'


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running(AWAY) as daemon:
        yield daemon
        assert daemon.stop() == 0


@pytest.fixture
def producer(daemon: Daemon) -> Iterator[Producer]:
    with certeus.connect(daemon.ingest, source="reload") as producer:
        yield producer


def reload(daemon: Daemon, more: str) -> dict[str, object]:
    daemon.config_path.write_text(AWAY + more)
    answer: dict[str, object] = json.loads(daemon.certeus("reload", "--json").stdout)
    return answer


def settle_one(producer: Producer) -> None:
    producer.wait_durable(producer.append("t", {"after": "a reload"}), timeout=30.0)


def test_who_uses_a_key_has_it_when_the_command_ends_and_producers_go_on(
    daemon: Daemon, producer: Producer
) -> None:
    settle_one(producer)
    others = daemon.pids("log") + daemon.pids("flush")
    (worker,) = daemon.pids("worker")
    answer = reload(daemon, "[limits]\nevent_bytes_max = 2048\n")
    assert (answer["changed"], answer["restarted"]) == (["limits.event_bytes_max"], ["worker-0"])
    assert daemon.pids("worker") != [worker]
    assert daemon.pids("log") + daemon.pids("flush") == others
    settle_one(producer)
    with pytest.raises(ValueError, match="the daemon takes 2048"):
        producer.append("t", {"n": "x" * 4096})


def test_the_log_writer_begins_anew_under_its_producers(daemon: Daemon, producer: Producer) -> None:
    reload(daemon, "")
    settle_one(producer)
    answer = reload(daemon, '[log]\nlinger_us = 500\n[logging]\nlevel = "debug"\n')
    assert answer["changed"] == ["log.linger_us", "logging.level"]
    assert answer["restarted"] == ["log"]
    settle_one(producer)
    assert daemon.status()["durable_seq"] >= 2


def test_a_configuration_that_cannot_be_used_changes_nothing_and_says_why(daemon: Daemon) -> None:
    reload(daemon, "")
    pids = [daemon.pids(role) for role in ("log", "worker", "flush")]
    for bad, word in (("[limits]\ndepth = 3\n", b"limits.depth_max"), ("[log\n", b"cannot read")):
        daemon.config_path.write_text(AWAY + bad)
        done = daemon.certeus("reload", code=78)
        assert word in done.stderr
        assert str(daemon.config_path).encode() in done.stderr
    assert [daemon.pids(role) for role in ("log", "worker", "flush")] == pids
    assert reload(daemon, "")["changed"] == []


def test_what_is_made_at_the_start_waits_for_the_next_and_is_shown(daemon: Daemon) -> None:
    answer = reload(daemon, '[cpu]\npin = "off"\n')
    assert (answer["pending"], answer["restarted"]) == (["cpu.pin"], [])
    assert daemon.status()["pending"] == ["cpu.pin"]
    assert b"cpu.pin" in daemon.certeus("status").stdout
    assert reload(daemon, "")["pending"] == []
    assert daemon.status()["pending"] == []


def test_sighup_is_a_reload_whose_end_is_logged(daemon: Daemon) -> None:
    daemon.config_path.write_text(AWAY + "batch_ms = 20\n")
    daemon.kill("supervisor", signal.SIGHUP)
    wait_until("its line", lambda: "postgres.batch_ms" in daemon.log_tail())
    daemon.config_path.write_text(AWAY + "batch_ms = 0\n")
    daemon.kill("supervisor", signal.SIGHUP)
    wait_until("its line", lambda: "configuration_not_reloaded" in daemon.log_tail())
    reload(daemon, "")
