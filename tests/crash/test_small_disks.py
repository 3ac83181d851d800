"""Small file systems of four kinds run full under load: producers wait, and nothing is lost.

Each world has one file system. The log fills it, somebody else fills it, to the last byte or
nearly; room returns while the daemon runs, or after a stop or a kill and a start on the full disk.
"""

import contextlib
import os
import random
from collections import Counter
from dataclasses import dataclass, replace

import pytest

from support.attack import Attack
from support.disk_world import Done, Tally, World, world
from support.disks import MEBIBYTES_MIN, unusable
from support.side_by_side import side_by_side

pytestmark = [pytest.mark.crash, pytest.mark.integration]

CONFIG = """
[log]
segment_bytes = 4194304
disk_reserve_bytes = %d
bytes_max = %d
[supervisor]
drain_timeout_ms = 1000
"""
MIB = 1 << 20
KINDS = tuple(MEBIBYTES_MIN)
LEAVES = (0, MIB, 5 * MIB)
"""What somebody else leaves free: nothing, less than a segment, or just one."""
Case = tuple[int, str, bool]
"""Bytes left, how it ends, whether PostgreSQL is away."""
GOES_ON = 2000
FULL = {"log-full", "disk-full"}
ENDS = ("room returns", "killed on a full disk", "stopped on a full disk")


class Filler:
    """Fills the disk of one world."""

    def __init__(self, made: World) -> None:
        self.world = made
        self.settled = 0

    def one(self, leave: int, end: str, away: bool) -> None:
        """Fill it, let the daemon meet that, and make room again."""
        world_, server = self.world, self.world.server
        world_.await_load()
        if away and server is not None:
            server.kill()
        world_.disk.fill(leave=leave)
        self.settled = world_.load.settled()
        world_.until("full disk under load", lambda: self._is_met(away))
        world_.met()
        daemon = world_.daemon
        if end != ENDS[0]:
            daemon.kill("all") if end == ENDS[1] else daemon.stop()
            daemon.start(ready=False)
            world_.until("a log writer that works, or says that it waits", self._says)
        world_.disk.make_room()
        if away and server is not None:
            server.start()
        world_.await_progress()
        world_.until("daemon that takes events", daemon.takes_events)

    def _is_met(self, away: bool) -> bool:
        """Whether the log is full; with PostgreSQL there it may go on in segments used again."""
        load = self.world.load
        load.keep_in_flight(300)
        goes_on = not away and load.settled() > self.settled + GOES_ON
        return (goes_on or bool(self.world.reasons() & FULL)) and self.world.busy()

    def _says(self) -> bool:
        """A daemon on a full disk takes events, or says why not; its log writer ends no more."""
        with contextlib.suppress(OSError):
            status = self.world.daemon.status()
            codes = {reason["code"] for reason in status["reasons"]}
            assert not any("crash-loop" in code for code in codes), codes
            return "disk-full" in codes or status["state"] in ("ready", "degraded")
        return False


def schedule(rng: random.Random) -> list[Case]:
    """Each way to fill with each way to go on; half without PostgreSQL, where the log fills it."""
    plan = [(leave, end, at % 2 == 0) for leave in LEAVES for at, end in enumerate(ENDS)]
    rng.shuffle(plan)
    return plan


@dataclass
class Place:
    """One file system, and what happens on it."""

    kind: str
    mebibytes: int
    embedded: bool
    reserve: int
    cases: list[Case]


def fill_all(place: Place) -> Done:
    """One world: after each case all that was ever told is compared with the rows."""
    met = Counter[str]()
    config = CONFIG % (place.reserve, 64 * MIB)
    with world(place.kind, place.mebibytes, config, embedded=place.embedded) as made:
        filler = Filler(made)
        for leave, end, away in place.cases:
            where = f"{place.kind}{' with PostgreSQL' if place.embedded else ''}, {end}"
            before = made.struck
            try:
                filler.one(leave, end, away)
                made.judge_case()
            except AssertionError as error:
                raise AssertionError(f"{where}, {leave} left: {error}\n{made.told()}") from error
            met[where] += made.struck - before
        return made.done(met)


@pytest.mark.timeout(1500)
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a file system of its own")
def test_a_file_system_that_runs_full_makes_producers_wait_and_loses_nothing(
    attack: Attack, capsys: pytest.CaptureFixture[str]
) -> None:
    tally, rng = Tally(attack, "small file system full, four kinds"), attack.rng
    places: list[Place] = []
    with capsys.disabled():
        for kind in KINDS:
            if why := unusable(kind):
                print(f"\n  {kind} is left out: {why}")
            else:
                places.append(Place(kind, 96, False, rng.choice((0, MIB)), schedule(rng)))
        places.append(Place("ext4", 384, True, MIB, schedule(rng)))
        if not attack.full:
            places = [replace(places[0], cases=places[0].cases[:1])]
        for done in side_by_side(fill_all, places):
            tally.add(done)
            print(f"\n  {tally.cases} full disks, {tally.judged.acknowledged} told", end="")
        print()
        tally.report()
