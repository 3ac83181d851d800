"""The number of workers changes under load, again and again: nothing is lost, doubled or failed."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import certeus
from support.daemon import Daemon, scratch_dir
from support.postgres import installations, server
from support.soak_load import Load
from support.soak_oracle import Judged, Oracle
from support.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

TESTS = Path(__file__).parents[1]
ROUNDS = 3
EVENTS_BETWEEN = 2000
MANY = 20
"""More than a worker has that leaves clients to another one without any."""
PATIENCE_S = 10.0
"""Longer than any pause between two lives."""


class Scaled(Daemon):
    """A real certeusd with as many workers as the test says."""

    @property
    def orders(self) -> Path:
        return self.root / "workers"

    def command(self) -> list[str]:
        return [
            sys.executable, "-m", "support.scaled_service", str(self.config_path),
            str(self.state_dir), str(self.runtime_dir), str(self.orders),
        ]  # fmt: skip

    def order(self, workers: int) -> None:
        """Return as soon as the number is decided."""
        self.orders.write_text(str(workers))
        wait_until("the number", lambda: self.get("/v1/workers")["scaling"]["current"] == workers)

    def serve(self, workers: int) -> None:
        self.order(workers)
        wait_until("so many at work", lambda: self.at_work() == list(range(workers)))

    def at_work(self) -> list[int]:
        rows = self.get("/v1/workers")["workers"]
        alive = len(self.pids("worker"))
        return [row["index"] for row in rows if row["ready"]] if alive == len(rows) else []

    def sessions(self, kind: str = "sessions") -> list[int]:
        return [row["counters"][kind] for row in self.get("/v1/workers")["workers"]]


@pytest.fixture
def daemon() -> Iterator[Scaled]:
    newest = sorted(installations().items())[-1][1]
    with ExitStack() as stack:
        postgres = stack.enter_context(server(newest))
        root = stack.enter_context(scratch_dir())
        config = f'[worker]\nmin = 1\nmax = 3\n[postgres]\ndsn = "{postgres.dsn()}"\n'
        daemon = Scaled(root, config, {"PYTHONPATH": str(TESTS)})
        daemon.orders.write_text("1")
        stack.callback(daemon.clean_up)
        daemon.start()
        daemon.certeus("dsn")
        yield daemon
        assert daemon.stop() == 0


def go_on(load: Load, more: int) -> None:
    """Every producer goes on until so many more events are settled."""
    goal = load.settled() + more

    def settled() -> bool:
        load.check()
        load.keep_in_flight(200)
        return load.settled() >= goal

    wait_until("producers that go on", settled, 60.0)


def test_workers_come_and_go_and_die_under_load_and_every_event_is_there_once_in_order(
    daemon: Scaled,
) -> None:
    load = Load(daemon)
    try:
        wait_until("producers with a session", load.all_live)
        go_on(load, EVENTS_BETWEEN)
        for number in range(ROUNDS):
            daemon.order(3)
            go_on(load, 200)
            wait_until("so many at work", lambda: daemon.at_work() == [0, 1, 2])
            go_on(load, EVENTS_BETWEEN)
            assert sum(count > 0 for count in daemon.sessions()) >= 2, "sessions moved"
            victim = daemon.worker_pids()[number % 3]
            os.kill(victim, signal.SIGKILL)
            go_on(load, EVENTS_BETWEEN)
            daemon.order(1)
            go_on(load, 200)
            wait_until("the last one", lambda: daemon.at_work() == [0])
            go_on(load, EVENTS_BETWEEN)
        load.finish()
        daemon.certeus("wait", "--flushed", "--timeout", "60")
        judged = Oracle(daemon.dsn()).judge(load)
        reconnects = daemon.log_path.read_text().count("sessions_handed_over")
    finally:
        load.end()
    assert judged == Judged(judged.acknowledged, judged.rows, judged.rejections, judged.duplicates)
    assert judged.acknowledged >= ROUNDS * EVENTS_BETWEEN
    assert reconnects == ROUNDS * 2
    log = daemon.log_path.read_text()
    assert log.count("workers_scaled") == ROUNDS * 2
    assert log.count("child_killed") == 0, "each went in order"
    assert log.count("child_died") == ROUNDS


@pytest.mark.parametrize("when", ["early", "late"])
def test_a_worker_that_cannot_live_keeps_nobody_from_the_others(daemon: Scaled, when: str) -> None:
    def crash_loop() -> bool:
        return "crash-loop" in [reason["code"] for reason in daemon.status()["reasons"]]

    daemon.serve(2)
    daemon.orders.with_name("dying").write_text(when)
    daemon.kill("worker1")
    wait_until("a crash loop", crash_loop)
    with ExitStack() as stack:
        for at in range(MANY):
            another = certeus.connect(daemon.ingest, source=f"p/{at}", timeout=PATIENCE_S)
            stack.enter_context(another)
        assert daemon.sessions() == [MANY, 0]


def test_a_worker_that_comes_gets_half_of_the_sessions_and_gives_them_back(daemon: Scaled) -> None:
    with ExitStack() as stack:
        producers = [
            stack.enter_context(certeus.connect(daemon.ingest, source=f"p/{at}")) for at in range(8)
        ]

        def append() -> None:
            for producer in producers:
                producer.append("t", {"n": 1})
            for producer in producers:
                producer.wait_durable(producer.append("t", {"n": 2}), timeout=30.0)

        def shared(*wanted: int) -> bool:
            append()  # A producer finds out when it has something to say.
            return sorted(daemon.sessions()) == list(wanted)

        assert shared(8)
        daemon.serve(2)
        wait_until("their shares", lambda: shared(4, 4))

        def all_work() -> bool:
            append()
            return daemon.sessions("active_sessions") == [4, 4]

        wait_until("all of them at work in one second", all_work)
        wait_until("nobody at work", lambda: daemon.sessions("active_sessions") == [0, 0])
        rows = daemon.get("/v1/producers")["producers"]
        assert sorted(row["worker"] for row in rows) == [0] * 4 + [1] * 4
        assert [one.statistics().reconnects for one in producers].count(1) == 4
        daemon.serve(3)
        wait_until("their shares", lambda: shared(2, 2, 4))
        daemon.serve(1)
        wait_until("all of them", lambda: shared(8))
        assert all(one.statistics().reconnects <= 4 for one in producers)
