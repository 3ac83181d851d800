"""The power is cut again and again under load: after it, all that was acknowledged is there.

A cut is ext4's shutdown ioctl on the file system that holds the state: from then on every write and
sync fails, and what is in no journal and no platter is gone at the next mount, which replays the
journal. A third of the cuts lets the journal be written first, a third everything. Most come at a
named moment of the log; those in a recovery come when its log writer has opened a first file.
"""

import itertools
import os
import random
from collections import Counter
from collections.abc import Generator
from dataclasses import dataclass

import pytest

from support.attack import Attack
from support.disk_world import CONFIG, Done, Tally, World, world
from support.disks import CUTS
from support.side_by_side import side_by_side
from support.watching import CREATE, MOVED_FROM, MOVED_TO, NAMES, OPEN, watching

pytestmark = [pytest.mark.crash, pytest.mark.integration]

MOMENTS = ("any", "sidecar", "recovery", "second recovery")
TRIES = 5
"""Cuts at one moment, at most: until one counts."""
WORLDS, CUTS_A_WORLD = 18, 14
RECYCLING = CONFIG.replace("bytes_max = 67108864", "bytes_max = 25165824\nretain_bytes = 67108864")
"""Delivered segments stay until the log may not grow: each one it begins is a recycled one. In
the other worlds each is a new file."""


@dataclass
class Part:
    """What one world goes through."""

    cuts: list[tuple[str, str]]
    recycles: bool
    embedded: bool
    seed: int


def is_moment(moment: str, mask: int, name: str) -> bool:
    """Whether this event of the log's directory is the moment."""
    if moment == "rollover":
        return name == "next" and bool(mask & (CREATE | MOVED_FROM))
    if moment == "recycling":
        return name != "next" and ".keys" not in name and bool(mask & MOVED_FROM)
    return ".keys" in name and bool(mask & (CREATE | MOVED_TO))


class Cutter:
    """Cuts the power of one world."""

    def __init__(self, made: World, rng: random.Random) -> None:
        self.world = made
        self.rng = rng
        self.met: Counter[str] = Counter()

    def pause(self, seconds: float) -> None:
        """A random moment: what it meets is counted, not how long it was."""
        self.world.pause(self.rng.random() * seconds)

    def one(self, moment: str, how: str) -> None:
        """Cut at a moment, again while it met too little in flight to count."""
        before = self.world.struck
        for _ in range(TRIES):
            self._try(moment, how)
            if self.world.struck > before:
                return

    def _try(self, moment: str, how: str) -> None:
        """One cut, the next start, and its first progress."""
        self.world.await_load()
        if moment.endswith("recovery"):
            self._in_a_recovery(again=moment.startswith("second"), how=how)
        else:
            self._at(moment, how)
        self.restart()
        self.world.await_progress()
        assert not self.world.reasons() & {"log-gap", "segment-aside", "diverged"}

    def _at(self, moment: str, how: str) -> None:
        folder = self.world.daemon.state_dir / "log"
        with watching(folder, NAMES) as watch:

            def now() -> bool:
                if moment == "any":
                    return self.world.busy()
                self.world.load.keep_in_flight(400)
                return any(is_moment(moment, mask, name) for mask, name in watch.events())

            if moment == "any":
                self.pause(0.2)
            self.world.until(f"moment of {moment}", now)
            self.pause(0.002)
            self.cut(moment, how)

    def _in_a_recovery(self, *, again: bool, how: str) -> None:
        """Everything is killed, and the start after it meets the cut; perhaps the next one, too."""
        self.world.daemon.kill("all")
        self._cut_while_it_starts("recovery", how)
        if again:
            self.world.disk.unmount()
            self.world.disk.mount()
            self._cut_while_it_starts("second recovery", how)

    def _cut_while_it_starts(self, moment: str, how: str) -> None:
        with watching(self.world.daemon.state_dir / "log", NAMES | OPEN) as watch:
            self.world.daemon.start(ready=False)
            self.world.until("recovery that reads", watch.events)
            self.pause(0.03)
            self.cut(moment, how)
        self.world.daemon.kill("all")

    def cut(self, moment: str, how: str) -> None:
        self.world.disk.cut(how)
        before = self.world.struck
        self.world.met()
        self.met[f"{moment}, {how}"] += self.world.struck - before

    def restart(self) -> None:
        """Let the daemon see the dead disk for a moment, then switch the machine on again."""
        self.pause(0.05)
        daemon = self.world.daemon
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.kill("all")
        self.world.disk.unmount()
        self.world.disk.mount()
        daemon.start(ready=False)


def schedule(rng: random.Random, worlds: int, cuts: int) -> list[Part]:
    """Moments and flags, each pair as often as the others, over all worlds of a kind."""

    def kind(recycles: bool) -> Generator[tuple[str, str]]:
        moments = (*MOMENTS, "recycling" if recycles else "rollover")
        pairs = [(moment, how) for moment in moments for how in CUTS]
        while True:
            yield from rng.sample(pairs, len(pairs))

    plans = {recycles: kind(recycles) for recycles in (False, True)}
    parts: list[Part] = []
    for at in range(worlds):
        recycles = at % 4 < 2
        # One world in six has its PostgreSQL on the disk whose power is cut.
        parts.append(
            Part(
                list(itertools.islice(plans[recycles], cuts)),
                recycles,
                at % 6 == 5,
                rng.randrange(1 << 31),
            )
        )
    return parts


def cut_all(part: Part) -> Done:
    """One world."""
    mebibytes = 2048 if part.embedded else 512
    config = RECYCLING if part.recycles else CONFIG
    with world("ext4", mebibytes, config, embedded=part.embedded) as made:
        cutter = Cutter(made, random.Random(part.seed))
        for at, (moment, how) in enumerate(part.cuts):
            try:
                cutter.one(moment, how)
            except AssertionError as error:
                told = made.told()
                raise AssertionError(f"cut {at} at {moment}, {how}: {error}\n{told}") from error
        return made.done(cutter.met)


@pytest.mark.timeout(1500)
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a file system of its own")
def test_whenever_the_power_is_cut_all_that_was_acknowledged_is_there(
    attack: Attack, capsys: pytest.CaptureFixture[str]
) -> None:
    tally = Tally(attack, "power cut (ext4 shutdown), each flag")
    parts = schedule(attack.rng, attack.cases(1, WORLDS), attack.cases(2, CUTS_A_WORLD))
    with capsys.disabled():
        for done in side_by_side(cut_all, parts):
            tally.add(done)
            print(f"\n  {tally.cases} cuts, {tally.judged.acknowledged} told", end="")
        print()
        tally.report()
