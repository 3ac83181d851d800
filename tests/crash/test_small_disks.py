"""Small file systems of four kinds run full under load: producers wait, and nothing is lost.

Each world has one file system. The log fills it, somebody else fills it, to the last byte or
nearly; room returns while the daemon runs, or after a stop or a kill and a start on the full disk.
"""

import os
import random
from collections import Counter

import pytest

from support.attack import Attack
from support.disk_world import Tally, World, world
from support.disks import MEBIBYTES_MIN, unusable

pytestmark = [pytest.mark.crash, pytest.mark.integration]

CONFIG = """
[log]
segment_bytes = 4194304
disk_reserve_bytes = %d
bytes_max = %d
"""
MIB = 1 << 20
KINDS = tuple(MEBIBYTES_MIN)
LEAVES = (0, MIB, 5 * MIB)
"""What somebody else leaves free: nothing, less than a segment, or just one."""
GOES_ON = 2000
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
            world_.until("the control API", self._answers)
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
        # A log writer that has to start on a full disk fails until there is room, and says so.
        return goes_on or bool(self.world.reasons() & {"log-full", "crash-loop"})

    def _answers(self) -> bool:
        """A daemon on a full disk still says how it is."""
        try:
            return bool(self.world.daemon.status()["state"])
        except OSError:
            return False


def schedule(rng: random.Random) -> list[tuple[int, str, bool]]:
    """Each way to fill with each way to go on; half without PostgreSQL, where the log fills it."""
    plan = [(leave, end, at % 2 == 0) for leave in LEAVES for at, end in enumerate(ENDS)]
    rng.shuffle(plan)
    return plan


@pytest.mark.timeout(1500)
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a file system of its own")
def test_a_file_system_that_runs_full_makes_producers_wait_and_loses_nothing(
    attack: Attack, capsys: pytest.CaptureFixture[str]
) -> None:
    tally, met = Tally(attack, "small file system full, four kinds"), Counter[str]()
    kinds = list(KINDS)
    for kind in KINDS:
        if why := unusable(kind):
            kinds.remove(kind)
            with capsys.disabled():
                print(f"\n  {kind} is left out: {why}")
    places = [(kind, 96, False) for kind in kinds] + [("ext4", 384, True)]
    for kind, mebibytes, embedded in places if attack.full else places[:1]:
        config = CONFIG % (attack.rng.choice((0, MIB)), 64 * MIB)
        with world(kind, mebibytes, config, embedded=embedded) as made:
            filler = Filler(made)
            for leave, end, away in schedule(attack.rng)[: attack.cases(2, 9)]:
                where = f"{kind}{' with PostgreSQL' if embedded else ''}, {end}"
                try:
                    filler.one(leave, end, away)
                except AssertionError as error:
                    raise AssertionError(
                        f"{where}, {leave} left: {error}\n{made.told()}"
                    ) from error
                met[where] += 1
            tally.add(made)
    with capsys.disabled():
        print("".join(f"\n  {count:5} x {name}" for name, count in sorted(met.items())))
    tally.report()
