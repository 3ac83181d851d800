"""The number of workers, carried out over fake children: grow, shrink, and what dies meanwhile."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import psutil
import pytest

from certeusd.control.client import Json
from support.supervised import PATIENCE_S, Daemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    running = Daemon(tmp_path, worker="min = 1\nmax = 4")
    running.until_joined(workers=1)
    yield running
    running.end()


def order(daemon: Daemon, workers: int) -> None:
    (daemon.directory / "workers").write_text(str(workers))


def scaling(daemon: Daemon) -> Json:
    return cast(Json, daemon.status()["scaling"])


def rows(daemon: Daemon) -> list[Json]:
    return cast(list[Json], daemon.client.get("/v1/workers")["workers"])


def until_ready(daemon: Daemon, workers: int) -> None:
    """So many are listed, at work and joined."""

    def there(it: Daemon) -> bool:
        found = rows(it)
        return len(found) == workers and all(row["ready"] for row in found)

    daemon.until(there)
    daemon.until_joined(workers)


def told(daemon: Daemon, name: str) -> Json:
    return daemon.reports()[name]


def samples(daemon: Daemon, name: str) -> list[str]:
    text = daemon.client.get_text("/metrics").decode()
    return [line for line in text.splitlines() if line.startswith(name)]


def test_a_worker_that_comes_is_joined_shares_and_gets_half_of_the_busiest(daemon: Daemon) -> None:
    order(daemon, 2)
    until_ready(daemon, 2)
    daemon.until(lambda it: told(it, "worker-0")["workers"] == 2)
    daemon.until(lambda it: told(it, "worker-0")["handed_over"] == 1)
    assert told(daemon, "worker-1")["handed_over"] == 0
    found = scaling(daemon)
    assert (found["min"], found["max"], found["current"]) == (1, 4, 2)
    assert (found["why"], found["ups_total"]) == ("the test orders it", 1)
    assert samples(daemon, "certeus_workers ") == ["certeus_workers 2.0"]


def test_a_worker_that_goes_drains_and_is_no_death(daemon: Daemon) -> None:
    order(daemon, 3)
    until_ready(daemon, 3)
    pid = daemon.pid("worker-2")
    order(daemon, 1)
    until_ready(daemon, 1)
    daemon.until(lambda it: told(it, "log-0")["detached"] == [2, 1])
    assert (daemon.directory / "drained").read_text().split() == ["worker-2", "worker-1"]
    assert told(daemon, "worker-0")["workers"] == 1
    assert not psutil.pid_exists(pid)
    assert [reason["code"] for reason in cast(list[Json], daemon.status()["reasons"])] == [
        "log-full"
    ]
    assert all(name not in str(samples(daemon, "certeus_process_up")) for name in ('"1"', '"2"'))
    order(daemon, 3)
    until_ready(daemon, 3)
    assert [row["restarts"] for row in rows(daemon)] == [0, 0, 0]
    assert daemon.pid("worker-2") != pid


def test_what_a_worker_counted_that_is_gone_stays_counted(daemon: Daemon) -> None:
    (daemon.directory / "worker-1").write_text("gauge")
    order(daemon, 2)
    until_ready(daemon, 2)
    before = samples(daemon, "certeus_sessions_opened_total")
    assert [line.partition("}")[0] for line in before] == [
        f'certeus_sessions_opened_total{{worker="{at}"' for at in (0, 1)
    ]
    assert daemon.status()["sessions"] == 5
    order(daemon, 1)
    daemon.until(lambda it: it.status()["sessions"] == 0)
    assert samples(daemon, "certeus_sessions_opened_total") == before


def test_acks_of_a_worker_that_goes_and_comes_are_counted_once(daemon: Daemon) -> None:
    def acks(it: Daemon) -> object:
        found = cast(list[Json], it.client.get("/v1/sla")["objectives"])
        return next(one["samples"] for one in found if one["name"] == "ack_p99")

    def looks(it: Daemon) -> int:
        found = cast(list[Json], it.client.get("/v1/sla")["objectives"])
        return next(cast(int, one["samples"]) for one in found if one["name"] == "availability")

    def until_looked_at(it: Daemon) -> None:
        seen = looks(it)
        it.until(lambda it: looks(it) >= seen + 2)

    (daemon.directory / "worker-1").write_text("gauge")
    order(daemon, 2)
    until_ready(daemon, 2)
    daemon.until(lambda it: acks(it) == 5)
    for workers in (1, 2):
        order(daemon, workers)
        until_ready(daemon, workers)
        until_looked_at(daemon)
    assert acks(daemon) == 5


def test_a_death_while_it_goes_is_its_end(daemon: Daemon) -> None:
    order(daemon, 2)
    until_ready(daemon, 2)
    pid = daemon.pid("worker-1")
    os.kill(pid, signal.SIGSTOP)  # It never drains.
    order(daemon, 1)
    daemon.until(lambda it: len(rows(it)) == 1)
    os.kill(pid, signal.SIGKILL)
    daemon.until(lambda it: told(it, "log-0")["detached"] == [1])
    order(daemon, 2)
    until_ready(daemon, 2)
    assert [row["restarts"] for row in rows(daemon)] == [0, 0], "nobody counted it"


def test_who_does_not_drain_is_killed_and_its_place_used_again(daemon: Daemon) -> None:
    (daemon.directory / "worker-1").write_text("stubborn")
    order(daemon, 2)
    until_ready(daemon, 2)
    pid = daemon.pid("worker-1")
    os.kill(pid, signal.SIGSTOP)
    order(daemon, 1)
    daemon.until(lambda it: not psutil.pid_exists(pid))
    order(daemon, 2)
    until_ready(daemon, 2)


def test_a_worker_that_cannot_begin_is_a_crash_loop_until_it_is_not_wanted(daemon: Daemon) -> None:
    (daemon.directory / "worker-1").write_text("die")
    order(daemon, 2)

    def codes(it: Daemon) -> list[object]:
        return [reason["code"] for reason in cast(list[Json], it.status()["reasons"])]

    daemon.until(lambda it: "crash-loop" in codes(it))
    assert told(daemon, "worker-0")["handed_over"] == 0, "nobody is there to take them"
    (daemon.directory / "worker-1").unlink()
    until_ready(daemon, 2)
    daemon.until(lambda it: told(it, "worker-0")["handed_over"] == 1)
    (daemon.directory / "worker-1").write_text("die")
    daemon.kill("worker-1")
    daemon.until(lambda it: "crash-loop" in codes(it))
    order(daemon, 1)
    daemon.until(lambda it: len(rows(it)) == 1 and not {"crash-loop", "restarting"} & {*codes(it)})


def test_a_worker_that_is_not_ready_in_time_is_ended_and_not_wanted(tmp_path: Path) -> None:
    (tmp_path / "ready_within_s").write_text("0.5")
    (tmp_path / "worker-1").write_text("die")
    daemon = Daemon(tmp_path, worker="min = 1\nmax = 4")
    try:
        daemon.until_joined(workers=1)
        order(daemon, 2)
        daemon.until(lambda it: scaling(it)["why"] == "worker-1 was not ready in time")
        assert cast(int, scaling(daemon)["downs_total"]) >= 1
        order(daemon, 1)
        daemon.until(lambda it: len(rows(it)) == 1)
        found = told(daemon, "worker-0")
        assert (found["workers"], found["handed_over"]) == (1, 0), "nobody shares with it"
        (tmp_path / "worker-1").unlink()
        order(daemon, 2)
        until_ready(daemon, 2)
        daemon.until(lambda it: told(it, "worker-0")["handed_over"] == 1)
    finally:
        daemon.end()


def test_a_drain_of_the_daemon_waits_for_no_worker_that_comes(daemon: Daemon) -> None:
    (daemon.directory / "worker-1").write_text("late")
    order(daemon, 2)
    daemon.until(lambda it: len(rows(it)) == 2)
    daemon.process.send_signal(signal.SIGTERM)
    _, message = daemon.process.communicate(timeout=PATIENCE_S)
    assert daemon.process.returncode == 0, message
    assert "Traceback" not in message


def test_a_drain_of_the_daemon_takes_along_who_is_going(daemon: Daemon) -> None:
    order(daemon, 2)
    until_ready(daemon, 2)
    pid = daemon.pid("worker-1")
    os.kill(pid, signal.SIGSTOP)
    order(daemon, 1)
    daemon.until(lambda it: len(rows(it)) == 1)
    daemon.process.send_signal(signal.SIGTERM)
    _, message = daemon.process.communicate(timeout=PATIENCE_S)
    assert daemon.process.returncode == 0, message
    assert not psutil.pid_exists(pid)
    assert "Traceback" not in message


def test_who_drains_gets_the_pair_of_the_next_log_writer(daemon: Daemon) -> None:
    order(daemon, 2)
    until_ready(daemon, 2)
    pid = daemon.pid("worker-1")
    (daemon.directory / "worker-1").write_text("stubborn")
    os.kill(pid, signal.SIGSTOP)
    order(daemon, 1)
    daemon.until(lambda it: len(rows(it)) == 1)
    log = daemon.pid("log-0")
    daemon.kill("log-0")
    daemon.until(lambda it: it.pid("log-0") != log)
    daemon.until(lambda it: sorted(cast(list[int], told(it, "log-0")["attached"])) == [0, 1])


def test_a_reload_moves_the_bounds_and_the_number_into_them(daemon: Daemon) -> None:
    daemon.configure("min = 3\nmax = 4")
    answer = daemon.client.post("/v1/reload", wait_s=PATIENCE_S)
    assert (answer["changed"], answer["restarted"]) == (["worker.min"], [])
    until_ready(daemon, 3)
    assert scaling(daemon)["why"] == "the configuration wants 3 at least"
    daemon.configure("min = 1\nmax = 2")
    daemon.client.post("/v1/reload", wait_s=PATIENCE_S)
    daemon.until(lambda it: scaling(it)["current"] == 2)
    daemon.configure("count = 4")
    answer = daemon.client.post("/v1/reload", wait_s=PATIENCE_S)
    assert set(cast(list[str], answer["pending"])) == {"worker.count", "worker.min", "worker.max"}
    assert scaling(daemon)["max"] == 2


def test_a_restart_of_the_workers_leaves_out_who_is_gone(daemon: Daemon) -> None:
    order(daemon, 3)
    until_ready(daemon, 3)
    order(daemon, 2)
    until_ready(daemon, 2)
    config = Path(daemon.config)
    config.write_text(config.read_text() + "[limits]\ndepth_max = 9\n")
    answer = daemon.client.post("/v1/reload", wait_s=PATIENCE_S)
    assert answer["restarted"] == ["worker-0", "worker-1"]
    assert told(daemon, "worker-0")["workers"] == 2
    assert len(rows(daemon)) == 2


def test_the_rule_itself_follows_what_is_measured(daemon: Daemon) -> None:
    (daemon.directory / "log-0").write_text("roomy")
    daemon.kill("log-0")
    busy = daemon.directory / "worker-0"
    busy.write_text("busy")
    daemon.kill("worker-0")
    daemon.until(lambda it: scaling(it)["current"] == 4)
    assert "worker-0 used " in str(scaling(daemon)["why"])
    busy.unlink()
    os.kill(cast(int, rows(daemon)[0]["pid"]), signal.SIGKILL)
    daemon.until(lambda it: scaling(it)["current"] == 1)
    assert "no worker used more than 3 % of a CPU" in str(scaling(daemon)["why"])
    daemon.process.send_signal(signal.SIGTERM)
    _, message = daemon.process.communicate(timeout=PATIENCE_S)
    assert daemon.process.returncode == 0
    assert message.count("workers_scaled") == 6
