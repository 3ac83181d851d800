"""Everything that can be killed is killed, again and again, under load: nothing is lost or doubled.

A strike is a SIGKILL while more than a hundred events are in flight, just before and just after
it; one in three is followed by a second one, at a random moment of the recovery. Producers are
among the victims: their successors offer again, with the same ids, what may have been in flight.
A daemon is struck some eighty times, then everything that its producers were told is compared with
its rows, and the next one begins. ``--seed`` repeats the schedule.
"""

import os
import random
import select
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from support import processes
from support.attack import Attack, Outcome
from support.daemon import Daemon, running
from support.soak_load import GRANT, Load
from support.soak_oracle import Judged, Oracle
from support.waiting import wait_until

pytestmark = [pytest.mark.crash, pytest.mark.integration]

CONFIG = """
[worker]
count = 2

[log]
segment_bytes = 8388608
"""
WEIGHTS = {
    "worker": 6, "log": 6, "flush": 4, "backend": 3, "postgres": 2, "producer": 4,
    "supervisor": 2, "all": 2, "world": 1,
}  # fmt: skip
"""``all``: the whole daemon with PostgreSQL; ``world``: and every producer with it."""
SECONDS = ("worker", "log", "flush", "supervisor", "all", "producer", "postgres")
WHOLE = ("all", "world", "supervisor")
IN_FLIGHT_MIN = 100
STRIKES_A_DAEMON = 80
HUNG_AFTER_S = 90.0
RSS_MAX = 192 << 20
DESCRIPTORS_MAX = 256


@dataclass(frozen=True)
class Planned:
    """One entry of the schedule: whom to kill, and whom in the recovery, after how long."""

    target: str
    pause_s: float
    second: str | None
    second_pause_s: float
    which: int


def schedule(rng: random.Random, count: int) -> list[Planned]:
    """What to kill, in order; a few first so that each target comes even in a short one."""
    targets = list(WEIGHTS)
    rng.shuffle(targets)
    more = rng.choices(list(WEIGHTS), list(WEIGHTS.values()), k=max(0, count - len(targets)))
    return [
        Planned(
            target,
            rng.random() * 0.01,
            rng.choice(SECONDS) if rng.random() < 1 / 3 else None,
            rng.random() ** 2 * 0.4,
            rng.randrange(1 << 16),
        )
        for target in (targets + more)[:count]
    ]


def pause(seconds: float) -> None:
    """The random moment of a strike: what it meets is asserted, not how long it was."""
    select.select([], [], [], seconds)


class Striker:
    """Strikes one daemon, and counts what it met."""

    def __init__(self, daemon: Daemon, load: Load) -> None:
        self.daemon = daemon
        self.load = load
        self.struck: Counter[str] = Counter()
        self.in_flight = 1 << 30

    def one(self, planned: Planned) -> None:
        """A strike, perhaps a second one, and the first sign that the work goes on."""
        self.until("producers with a session", self.load.all_live)
        self._strike(planned.target, planned.which, planned.pause_s, planned.target)
        if planned.second is not None:
            name = f"{planned.second} in a recovery"
            self._strike(planned.second, planned.which + 1, planned.second_pause_s, name)
        settled = self.load.settled()
        self.until("progress after it", lambda: self._progressed(settled))

    def _strike(self, target: str, which: int, pause_s: float, name: str) -> None:
        self.load.grant(GRANT)
        pause(pause_s)
        self.until(f"process of {target}", lambda: self._pids(target))
        while True:
            self.until("events in flight", lambda: self.load.keep_in_flight(IN_FLIGHT_MIN))
            victims = processes.held(self._victims(target, which))
            before = self.load.in_flight()
            if victims and before > IN_FLIGHT_MIN:
                break
        for victim in victims:
            victim.send(processes.SIGKILL)
            victim.close()
        in_flight = min(before, self.load.in_flight())
        if in_flight > IN_FLIGHT_MIN:
            self.struck[name] += 1
            self.in_flight = min(self.in_flight, in_flight)
        self._replace(target, which)

    def _progressed(self, settled: int) -> bool:
        self.load.keep_in_flight(0)
        return self.load.settled() > settled

    def _pids(self, target: str) -> list[int]:
        producers = [life.process.pid for life in self.load.current]
        if target == "producer":
            return producers
        if target == "world":
            return processes.find(self.daemon, "all") + producers
        return processes.find(self.daemon, target)

    def _victims(self, target: str, which: int) -> list[int]:
        pids = self._pids(target)
        if target in (*WHOLE, "postgres"):
            return pids
        return pids[which % len(pids) :][:1] if pids else []

    def _replace(self, target: str, which: int) -> None:
        """Do what an administrator does: start again what nobody else starts."""
        if target == "producer":
            self.load.replace(which % len(self.load.current))
        if target == "world":
            for index in range(len(self.load.current)):
                self.load.replace(index)
        if target in WHOLE:
            assert self.daemon.process is not None
            self.daemon.process.wait(60)
            self.daemon.start(ready=False)

    def until(self, what: str, condition: Callable[[], object]) -> None:
        wait_until(what, condition, HUNG_AFTER_S)


def sound(daemon: Daemon) -> None:
    """The survivors are bounded; after the end the log is good, and nothing is left."""
    wait_until("daemon that takes events", daemon.takes_events, 60)
    assert daemon.process is not None
    for role in ("supervisor", "worker", "log", "flush"):
        for pid in processes.find(daemon, role):
            rss, count = processes.rss_bytes(pid), processes.descriptors(pid)
            assert rss < RSS_MAX, f"{role} has {rss >> 20} MiB"
            assert count < DESCRIPTORS_MAX, f"{role} has {count} descriptors"
    assert daemon.stop() == 0
    daemon.certeus("log", "check")
    assert processes.leftovers(str(daemon.root)) == []


def abandoned(names: set[str]) -> set[str]:
    """Names in /dev/shm that no living process has mapped."""
    used: set[str] = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            text = maps.read_text()
        except OSError:
            continue
        used |= {name for name in names if f"/dev/shm/{name}" in text}
    return names - used


def soak(plan: list[Planned], first_life: int) -> tuple[Striker, Judged, int]:
    """Strike one daemon as planned; what was struck, what was found, and the next life's number."""
    with running(CONFIG) as daemon:
        load = Load(daemon, first_life)
        try:
            striker = Striker(daemon, load)
            for number, planned in enumerate(plan):
                try:
                    striker.one(planned)
                except AssertionError as error:
                    raise AssertionError(
                        f"strike {number}, {planned}: {error}\n{load.errors()}\n{daemon.log_tail()}"
                    ) from error
            wait_until("daemon that takes events", daemon.takes_events, HUNG_AFTER_S)
            load.finish()
            daemon.certeus("wait", "--flushed", "--timeout", "120")
            judged = Oracle(daemon.dsn()).judge(load)
            sound(daemon)
        finally:
            load.end()
    return striker, judged, load.next_life


@pytest.mark.timeout(2400)
def test_whatever_is_killed_and_killed_again_nothing_is_lost_or_doubled(
    attack: Attack, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = attack.cases(12, 1200)
    before = set(os.listdir("/dev/shm"))
    total, all_judged = Counter[str](), Judged()
    in_flight, next_life = 1 << 30, 1
    while sum(total.values()) < wanted:
        count = min(STRIKES_A_DAEMON, max(4, (wanted - sum(total.values())) * 3 // 4))
        striker, judged, next_life = soak(schedule(attack.rng, count), next_life)
        total += striker.struck
        in_flight = min(in_flight, striker.in_flight)
        all_judged.merge(judged)
        with capsys.disabled():
            print(f"\n  {sum(total.values())} strikes, {all_judged.acknowledged} acknowledged",
                  end="")  # fmt: skip
    left = abandoned(set(os.listdir("/dev/shm")) - before)
    assert not left, f"left in /dev/shm: {left}"
    with capsys.disabled():
        print(f"\n--seed {attack.seed}: {all_judged}")
        print("\n".join(f"  {count:5} x {name}" for name, count in sorted(total.items())))
    attack.report(
        Outcome(
            "SIGKILL of any process, twice running too", sum(total.values()),
            all_judged.acknowledged, in_flight, all_judged.lost, all_judged.doubled,
            all_judged.reordered,
        )
    )  # fmt: skip
