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


def test_the_difference_between_files_and_daemon_is_shown_before_a_reload(daemon: Daemon) -> None:
    reload(daemon, "")
    assert b"no difference" in daemon.certeus("config", "diff").stdout
    daemon.config_path.write_text(AWAY + 'batch_ms = 20\n[cpu]\npin = "off"\n')
    told = json.loads(daemon.certeus("config", "diff", "--json", code=1).stdout)
    file = str(daemon.config_path)
    assert told["differences"] == [
        {"key": "cpu.pin", "running": "auto", "read": "off", "origin": file,
         "needs_restart": True},
        {"key": "postgres.batch_ms", "running": 10, "read": 20, "origin": file,
         "needs_restart": False},
    ]  # fmt: skip
    assert b"restart" in daemon.certeus("config", "diff", code=1).stdout
    daemon.config_path.write_text("[nonsense]\n")
    assert b"unknown section" in daemon.certeus("config", "diff", code=78).stderr


def test_every_key_is_shown_with_its_origin_and_no_secret(daemon: Daemon) -> None:
    secret = AWAY.replace("nobody@", "nobody:geheim@")
    daemon.config_path.write_text(secret + "batch_ms = 20\n")
    daemon.certeus("reload")
    told = daemon.certeus("config", "show", "--json").stdout
    assert b"geheim" not in told
    keys = {one["key"]: one for one in json.loads(told)["keys"]}
    assert keys["postgres.batch_ms"]["value"] == 20
    assert keys["postgres.batch_ms"]["origin"] == str(daemon.config_path)
    assert keys["log.recycle"] == {"key": "log.recycle", "value": True, "origin": "default"}
    assert b"log.recycle" in daemon.certeus("config", "show", "--effective", "--origin").stdout
    changed = daemon.certeus("config", "show", "--changed").stdout
    assert b"postgres.batch_ms" in changed
    assert b"log.recycle" not in changed
    reload(daemon, "")


def test_a_listener_that_admits_nobody_admits_nobody_after_a_reload(daemon: Daemon) -> None:
    nobody = "[[ingest]]\nuids = [65534]\n"
    reload(daemon, nobody)
    reload(daemon, nobody + "[limits]\ndepth_max = 9\n")
    with pytest.raises(certeus.ConnectError, match="not-allowed"):
        certeus.connect(daemon.ingest, source="reload")
    reload(daemon, "")


def test_an_order_is_told_whatever_the_level_of_the_log(daemon: Daemon) -> None:
    daemon.certeus("log-level", "error")
    before = daemon.log_path.read_text().count("control_ordered")
    daemon.certeus("retry", code=None)
    assert daemon.log_path.read_text().count("control_ordered") == before + 1
    daemon.certeus("log-level", "info")


def test_an_address_that_is_none_is_told_without_its_password(daemon: Daemon) -> None:
    for dsn in (
        "postgresql://u:geheim@[::1/db",
        "postgresql://u:geheim@ho\u2100st/db",
        "mysql://h",
    ):
        daemon.config_path.write_text(f'[postgres]\ndsn = "{dsn}"\n')
        for verb in (("reload",), ("config", "diff")):
            told = daemon.certeus(*verb, code=78).stderr
            assert b"postgresql://user@host" in told
            assert b"geheim" not in told
    reload(daemon, "")
