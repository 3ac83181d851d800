"""System calls of the log writer and of the flusher fail, one or many, under load.

EIO ends the log writer, ENOSPC is back-pressure or ends it, EINTR nobody sees; whatever fails in
the flusher is tried again. When the error is lifted all goes on, and everything that was
acknowledged is there once.
"""

import os
import random
import shutil
import time
from collections import Counter

import pytest

from support import processes
from support.attack import Attack
from support.disk_world import Tally, World, world
from support.injection import Fault, Tracer, injecting

pytestmark = [pytest.mark.crash, pytest.mark.integration]

OFTEN = {"pwritev": 60, "fdatasync": 60, "write": 30}
"""These come with every group: the error comes with one of so many."""
CALLS = {
    "log": ("pwritev", "fdatasync", "openat", "fsync", "rename", "unlink", "ftruncate", "write"),
    "flush": ("write", "fsync", "openat", "rename"),
}
ERRORS = ("EIO", "ENOSPC", "EINTR")
CASES_A_WORLD = 40
PATIENCE_S = 4.0
"""So long a call is waited for that may not come: then the case does not count."""


def schedule(rng: random.Random) -> list[tuple[str, Fault]]:
    """Every role, call and error once, single and lasting, shuffled."""
    plan: list[tuple[str, Fault]] = []
    for role, calls in CALLS.items():
        for call in calls:
            for error in ERRORS:
                first = rng.randint(1, OFTEN.get(call, 2))
                for when in (str(first), f"{first}..{first + 4}"):
                    plan.append((role, Fault(call, f"error={error}", when)))
    rng.shuffle(plan)
    return plan


class Injector:
    """Makes the calls of one world's processes fail."""

    def __init__(self, made: World) -> None:
        self.world = made
        self.met: Counter[str] = Counter()

    def one(self, role: str, fault: Fault) -> None:
        """One error, what it leads to, and progress when it is lifted."""
        self.world.await_load()
        self.world.until(f"process {role}", lambda: processes.find(self.world.daemon, role))
        pid = processes.find(self.world.daemon, role)[0]
        with injecting(pid, fault, self.world.daemon.root / "strace") as tracer:
            struck = self._struck(role, tracer)
            before = self.world.struck
            if struck:
                self.world.met()
                self.met[f"{role} {fault.calls} {fault.how}"] += self.world.struck - before
                self._meanwhile(role, fault, tracer)
        self.world.await_progress()
        if struck and fault.how == "error=EINTR":
            assert pid in processes.find(self.world.daemon, role), f"EINTR ended {role}"

    def _struck(self, role: str, tracer: Tracer) -> bool:
        """Whether the error came, within some time of load."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            self.world.load.keep_in_flight(300)
            if tracer.injected():
                return True
            if tracer.pid not in processes.find(self.world.daemon, role):
                return False
            self.world.pause(0.002)
        return False

    def _meanwhile(self, role: str, fault: Fault, tracer: Tracer) -> None:
        """What the error must lead to while it lasts."""
        if role == "log" and fault.how == "error=EIO" and fault.calls != "write":
            self.world.until("end of the log writer", lambda: self._ended(tracer))

    def _ended(self, tracer: Tracer) -> bool:
        self.world.load.keep_in_flight(300)
        return tracer.pid not in processes.find(self.world.daemon, "log")


@pytest.mark.timeout(1500)
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a file system of its own")
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace: tools/setup.sh test")
def test_a_call_that_fails_loses_nothing_and_ends_at_most_its_process(
    attack: Attack, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = attack.cases(4, 165)
    tally, met = Tally(attack, "failing call of log writer or flusher"), Counter[str]()
    plan: list[tuple[str, Fault]] = []
    while tally.cases < wanted:
        with world() as made:
            injector = Injector(made)
            while made.struck < min(CASES_A_WORLD, wanted - tally.cases):
                plan = plan or schedule(attack.rng)
                role, fault = plan.pop()
                try:
                    injector.one(role, fault)
                except AssertionError as error:
                    told = made.told()
                    raise AssertionError(f"{role}, {fault}: {error}\n{told}") from error
            tally.add(made)
        met += injector.met
        with capsys.disabled():
            print(f"\n  {tally.cases} errors, {tally.judged.acknowledged} acknowledged", end="")
    with capsys.disabled():
        print("".join(f"\n  {count:5} x {name}" for name, count in sorted(met.items())))
    tally.report()
