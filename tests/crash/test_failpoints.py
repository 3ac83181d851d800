"""A process dies at every failpoint there is, under load: nothing is lost, doubled or reordered.

The failpoints stand on both sides of every call of the log's file system and of every publication,
in the log writer, its helper, the workers and the flusher. Each is armed by itself while events
are in flight; that its flag file comes shows that the process died there; what it published and
wrote until then is what its successor finds. One that nothing passes fails the test. In the end
everything that producers were told is compared with the rows, to the byte.
"""

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg
import pytest

import certeus
from support import failpoints, processes
from support.attack import Attack, Outcome, compare
from support.daemon import Daemon, scratch_dir
from support.failpoints import ALL, Flags, means_of
from support.soak_load import Load
from support.soak_oracle import Judged, Oracle
from support.waiting import wait_until

pytestmark = [pytest.mark.crash, pytest.mark.integration]

CONFIG = f"""
[worker]
count = 2

[log]
segment_bytes = {failpoints.SEGMENT_BYTES}
bytes_max = {3 * failpoints.SEGMENT_BYTES}
disk_reserve_bytes = 0

[dedup]
keys = 5000
"""
HUNG_AFTER_S = 90.0
PASSED_WITHIN_S = 30.0
TRIES = 5
IN_FLIGHT_MIN = 300
"""More are granted when fewer are."""
REFUSED_EVENTS = 3000


@dataclass
class Tally:
    """What was struck, and amid what."""

    hit: list[str] = field(default_factory=list[str])
    in_flight: int = 1 << 30

    def note(self, name: str, in_flight: int) -> None:
        assert in_flight > 0, f"{name} was struck while nothing was in flight"
        self.hit.append(name)
        self.in_flight = min(self.in_flight, in_flight)


class Striker:
    """Arms one failpoint after the other in one life of a daemon."""

    def __init__(self, daemon: Daemon, flags: Flags, load: Load, tally: Tally) -> None:
        self.daemon = daemon
        self.flags = flags
        self.load = load
        self.tally = tally

    def one(self, name: str) -> None:
        """Let a process die at the failpoint, and wait until the work goes on."""
        self._until("producers with a session", self.load.all_live)
        # What a start or a full log meets depends on the moment: it may take a second one.
        for _ in range(TRIES):
            self._until("events in flight", self._work)
            self._bring_about(name)
            if self.died(name):
                return
        raise AssertionError(f"nothing passes {name} while events are in flight")

    def _bring_about(self, name: str) -> None:
        means = means_of(name)
        if means == "start":
            failpoints.restart(self.daemon, self.flags, name, self._work)
        elif means == "full":
            failpoints.fill(self.daemon, self.flags, name, self._work)
        elif means == "no-space":
            failpoints.take_space(self.daemon, self.flags, name, self._work)
        else:
            self.flags.arm(name)

    def died(self, name: str) -> bool:
        """Whether a process dies at the failpoint amid events; then the work goes on."""

        def is_hit() -> bool:
            self._work()
            return self.flags.is_hit(name)

        try:
            wait_until(f"process that passes {name}", is_hit, PASSED_WITHIN_S)
        except AssertionError:
            self.flags.path(name).touch()
            return False
        in_flight = self.load.in_flight()
        failpoints.give_space(self.daemon)
        self._until("daemon that takes events", self.daemon.takes_events)
        settled, flushed = self.load.settled(), self.daemon.status()["flushed_seq"]

        def goes_on() -> bool:
            self._work()
            told = self.load.settled() > settled
            if not told or not name.startswith("flush-"):
                return told
            return bool(self.daemon.status()["flushed_seq"] > flushed)

        self._until("work that goes on", goes_on)
        if in_flight > 0:
            self.tally.note(name, in_flight)
        return in_flight > 0

    def _work(self) -> bool:
        return self.load.keep_in_flight(IN_FLIGHT_MIN)

    def _until(self, what: str, condition: Callable[[], object]) -> None:
        wait_until(what, condition, HUNG_AFTER_S)


def strike(names: list[str], tally: Tally) -> Judged:
    """Let a daemon die at each of the names, and compare what is there."""
    with scratch_dir() as root:
        flags = Flags(root / "flags")
        daemon = Daemon(root, CONFIG, flags.environment())
        first = [name for name in names if means_of(name) == "first"]
        for name in first:
            flags.arm(name)
        daemon.start(ready=False)
        load = Load(daemon)
        name = "start"
        try:
            striker = Striker(daemon, flags, load, tally)
            for name in first:
                assert striker.died(name), f"nothing passes {name}"
            wait_until("daemon that takes events", daemon.takes_events, HUNG_AFTER_S)
            for name in [name for name in names if name not in first]:
                striker.one(name)
            name = "end"
            load.finish()
            daemon.certeus("wait", "--flushed", "--timeout", "120")
            judged = Oracle(daemon.dsn()).judge(load)
            assert daemon.stop() == 0
            daemon.certeus("log", "check")
            assert "is not listed" not in daemon.log_path.read_text()
            assert processes.leftovers(str(root)) == []
        except (AssertionError, OSError) as error:
            raise AssertionError(
                f"{name}: {error!r}\n{load.errors()}\n{daemon.log_tail()}"
            ) from error
        finally:
            load.end()
            daemon.clean_up()
    return judged


# --- what only happens to events that are refused or gone -----------------------------------------


async def execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


async def column(dsn: str, query: str) -> list[int]:
    connection = await asyncpg.connect(dsn)
    try:
        return [row[0] for row in await connection.fetch(query)]
    finally:
        await connection.close()


def append_until_hit(daemon: Daemon, flags: Flags, name: str, tally: Tally) -> int:
    """Append while a process dies at the failpoint; the number of events, all acknowledged."""
    with certeus.connect(daemon.ingest, source=name) as producer:
        count, last, in_flight = 0, 0, 0

        def is_hit() -> bool:
            nonlocal count, last, in_flight
            in_flight = last - producer.statistics().settled
            while in_flight < 600 and count < 50 * REFUSED_EVENTS:
                last = producer.append_many("t", ({"n": n} for n in range(count, count + 100)))
                count += 100
                in_flight = last - producer.statistics().settled
            return flags.is_hit(name)

        wait_until(f"process that passes {name}", is_hit, HUNG_AFTER_S)
        tally.note(name, in_flight)
        while count < REFUSED_EVENTS:
            last = producer.append_many("t", ({"n": n} for n in range(count, count + 100)))
            count += 100
        producer.wait_durable(last, timeout=HUNG_AFTER_S)
    return count


def next_segment(daemon: Daemon) -> None:
    """Let the log go on in another segment: each start opens one."""
    with failpoints.log_writer_away(daemon):
        before = failpoints.newest(daemon)
    wait_until("segment", lambda: failpoints.newest(daemon) != before)
    wait_until("daemon that takes events", daemon.takes_events, HUNG_AFTER_S)


def lose_a_segment(daemon: Daemon, flags: Flags, tally: Tally) -> tuple[int, range]:
    """Events that PostgreSQL has not are lost, and their loss is accepted; events, and the lost."""
    name = "flush-after-gap"
    acknowledged = 0
    begun: list[Path] = []
    daemon.certeus("wait", "--flushed", "--timeout", "60")
    with failpoints.stopped(processes.find(daemon, "flush")):
        for _ in range(3):
            with certeus.connect(daemon.ingest, source="gap") as producer:
                producer.wait_durable(producer.append_many("t", [{"n": 1}] * 50), timeout=60)
                producer.wait_durable(producer.append_many("t", [{"n": 2}]), timeout=60)
            acknowledged += 51
            begun.append(failpoints.newest(daemon))
            next_segment(daemon)
        with failpoints.log_writer_away(daemon):
            begun[1].rename(daemon.root / "away")
    wait_until("gap", lambda: daemon.status()["reports"].get("gap"), HUNG_AFTER_S)
    gap = daemon.status()["reports"]["gap"]
    flags.arm(name)
    daemon.certeus("gap", "accept", code=None)
    acknowledged += append_until_hit(daemon, flags, name, tally)

    def accepted() -> bool:
        status = daemon.status()
        if status["reports"].get("gap"):
            daemon.certeus("gap", "accept", code=None)
        return bool(status["flushed_seq"] > gap["last_seq"])

    wait_until("accepted gap", accepted, HUNG_AFTER_S)
    return acknowledged, range(gap["first_seq"], gap["last_seq"] + 1)


def strike_refused(names: list[str], tally: Tally) -> Judged:
    """Rows that PostgreSQL refuses, and a gap: each event is in one place, once."""
    judged = Judged()
    with scratch_dir() as root:
        flags = Flags(root / "flags")
        daemon = Daemon(root, "", flags.environment())
        try:
            daemon.start()
            wait_until("flusher", lambda: daemon.status()["state"] == "ready", HUNG_AFTER_S)
            dsn = daemon.dsn()
            odd = "ALTER TABLE certeus.events ADD CONSTRAINT odd CHECK (ticket <> 7)"
            asyncio.run(execute(dsn, odd))
            for name in names:
                if name != "flush-after-gap":
                    flags.arm(name)
                    judged.acknowledged += append_until_hit(daemon, flags, name, tally)
            lost = range(0)
            if "flush-after-gap" in names:
                count, lost = lose_a_segment(daemon, flags, tally)
                judged.acknowledged += count
            daemon.certeus("wait", "--flushed", "--timeout", "120")
            rows = asyncio.run(column(dsn, "SELECT seq FROM certeus.events ORDER BY log_id, seq"))
            dead = asyncio.run(column(dsn, "SELECT seq FROM certeus.dead_letters"))
            assert len(dead) >= len(names) - bool(lost)
            expected = [seq for seq in range(1, judged.acknowledged + 1) if seq not in lost]
            judged.add(compare(expected, sorted(rows + dead)))
            gaps = asyncio.run(column(dsn, "SELECT first_seq FROM certeus.gaps"))
            assert gaps == ([lost.start] if lost else [])
            assert daemon.stop() == 0
        except (AssertionError, OSError) as error:
            raise AssertionError(f"{tally.hit[-1:]}: {error!r}\n{daemon.log_tail()}") from error
        finally:
            for pid in processes.find(daemon, "all"):
                for process in processes.held([pid]):
                    process.send(signal.SIGCONT)
                    process.close()
            daemon.clean_up()
    return judged


@pytest.mark.timeout(1500)
def test_a_death_on_either_side_of_every_durable_step_costs_no_event(
    attack: Attack, capsys: pytest.CaptureFixture[str]
) -> None:
    names = sorted(ALL)
    attack.rng.shuffle(names)
    refused = [name for name in names if means_of(name) == "refused"]
    names = [name for name in names if name not in refused]
    if not attack.full:
        names, refused = names[: attack.cases(6, 0)], []
    tally = Tally()
    judged = strike(names, tally)
    if refused:
        judged.merge(strike_refused(refused, tally))
    assert sorted(tally.hit) == sorted(names + refused)
    with capsys.disabled():
        print(f"\n{len(tally.hit)} of {len(ALL)} failpoints, {judged}")
    attack.report(
        Outcome(
            "death at a failpoint, each of its own", len(tally.hit), judged.acknowledged,
            tally.in_flight, judged.lost, judged.doubled, judged.reordered,
        )
    )  # fmt: skip
