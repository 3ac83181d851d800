"""A process that stands still (SIGSTOP) for longer than every time-out, and then goes on, as a
debugger or an overloaded machine does it: nothing is lost or doubled, nobody else is harmed, and
``status`` says who it is.
"""

import select
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

import certeus
from support import processes
from support.attack import Attack, Outcome
from support.daemon import Daemon, running
from support.soak_load import Load
from support.soak_oracle import Judged, Oracle
from support.waiting import wait_until

pytestmark = [pytest.mark.crash, pytest.mark.integration]

CONFIG = "[worker]\ncount = 2\n"
IN_FLIGHT_MIN = 100
LONG_S = 12.0
"""Longer than a hello, a heartbeat, a grace; PostgreSQL's own stall is told after a minute."""
ANSWER_S = 60.0


@dataclass(frozen=True)
class Stop:
    """One case: who stands still, what ``status`` must say meanwhile, and who must go on."""

    target: str
    reason: str | None
    seconds: float
    settles: bool
    """Whether other producers' events are acknowledged meanwhile."""
    killed: str = ""
    """Who is killed while the target stands still."""


CASES = (
    Stop("log", "log-stalled", 6.0, False),
    Stop("worker", "worker-stalled", LONG_S, True),
    Stop("flush", "flush-stalled", LONG_S, True),
    Stop("backend", "flush-stalled", LONG_S, True),
    Stop("postgres", "postgres-away", 75.0, True),
    Stop("producer", None, LONG_S, True),
    Stop("supervisor", None, LONG_S, True),
    Stop("supervisor", None, 3.0, False, killed="log"),
    Stop("log", None, 3.0, False, killed="worker"),
    Stop("log", "log-stalled", LONG_S, False),
)


def pids_of(daemon: Daemon, load: Load, target: str) -> list[int]:
    if target == "producer":
        return [load.current[0].process.pid]
    if target == "postgres":
        return [pid for top in processes.find(daemon, target) for pid in processes.tree(top)]
    return processes.find(daemon, target)[:1]


@contextmanager
def stopped(load: Load, pids: list[int]) -> Generator[int]:
    """They stand still for the length of a block; the events in flight when they were stopped."""
    held = processes.held(pids)

    def tell(number: signal.Signals) -> None:
        for process in held:
            process.send(number)

    def strikes() -> int:
        """Only a stop in the middle of work counts; otherwise they go on, and it is tried again."""
        load.keep_in_flight(5 * IN_FLIGHT_MIN)
        if load.in_flight() <= IN_FLIGHT_MIN:
            return 0
        tell(signal.SIGSTOP)
        in_flight = load.in_flight()
        if in_flight <= IN_FLIGHT_MIN:
            tell(signal.SIGCONT)
            return 0
        return in_flight

    try:
        yield wait_until("stop amid events in flight", strikes, ANSWER_S)
    finally:
        tell(signal.SIGCONT)
        for process in held:
            process.close()


def is_spread(daemon: Daemon, load: Load) -> bool:
    """Whether every worker has producers; else one of them goes, and another one comes."""
    served = [worker["counters"]["sessions"] for worker in daemon.status()["workers"]]
    if not all(served) and load.all_live():
        load.current[0].process.kill()
        load.replace(0)
    return all(served)


def says(daemon: Daemon, code: str) -> bool:
    return code in [reason["code"] for reason in daemon.status()["reasons"]]


def keep_going(load: Load, seconds: float) -> int:
    """Let everybody append for so long; how many events were acknowledged in that time."""
    before, until = load.settled(), time.monotonic() + seconds
    while time.monotonic() < until:
        load.grant(10)
        load.check()
        select.select([], [], [], 0.02)
    return load.settled() - before


def one(daemon: Daemon, load: Load, case: Stop) -> int:
    """Stop, look, and let go on; the events in flight at the stop."""
    wait_until(f"process of {case.target}", lambda: pids_of(daemon, load, case.target), ANSWER_S)
    with stopped(load, pids_of(daemon, load, case.target)) as in_flight:
        for pid in pids_of(daemon, load, case.killed) if case.killed else ():
            for process in processes.held([pid]):
                process.send(processes.SIGKILL)
        newcomer(daemon, case)
        acknowledged = keep_going(load, case.seconds)
        assert acknowledged > 1000 or not case.settles, f"{case}: {acknowledged} acknowledged"
        if case.reason is not None:
            wait_until(f"reason {case.reason}", lambda: says(daemon, case.reason or ""), ANSWER_S)
            assert daemon.status()["state"] == "degraded"
    settled = load.settled()
    load.grant(400)
    wait_until("events acknowledged again", lambda: load.settled() > settled, ANSWER_S)
    if case.reason is not None:
        wait_until("no reason any more", lambda: not says(daemon, case.reason or ""), ANSWER_S)
    return in_flight


def newcomer(daemon: Daemon, case: Stop) -> None:
    """While others stand still, a new producer finds who serves it."""
    if case.settles:
        with certeus.connect(daemon.ingest, source="newcomer", timeout=ANSWER_S) as producer:
            producer.wait_durable(producer.append("newcomer", 1), timeout=ANSWER_S)


@pytest.mark.timeout(900)
def test_whoever_stands_still_harms_nobody_and_loses_nothing_when_it_goes_on(
    attack: Attack,
) -> None:
    cases = CASES if attack.full else CASES[:1]
    with running(CONFIG) as daemon:
        load = Load(daemon)
        try:
            wait_until("producers", load.all_live, ANSWER_S)
            wait_until("producers on every worker", lambda: is_spread(daemon, load), ANSWER_S)
            in_flight = [one(daemon, load, case) for case in cases]
            load.finish()
            daemon.certeus("wait", "--flushed", "--timeout", "120")
            judged: Judged = Oracle(daemon.dsn()).judge(load)
            assert daemon.stop() == 0
        finally:
            load.end()
    assert min(in_flight) > IN_FLIGHT_MIN
    attack.report(
        Outcome(
            "SIGSTOP longer than every time-out", len(cases), judged.acknowledged,
            min(in_flight), judged.lost, judged.doubled, judged.reordered,
        )
    )  # fmt: skip
