"""System calls of the log writer and of the flusher fail, one or many, under load.

EIO ends the log writer with exit code 74, ENOSPC is back-pressure or ends it so, EINTR nobody sees;
whatever fails in the flusher is tried again. When the error is lifted all goes on, and everything
that was acknowledged is there once.
"""

import errno
import json
import os
import random
import shutil
import signal
import time
from collections import Counter
from dataclasses import dataclass

import pytest

from support import processes
from support.attack import Attack
from support.disk_world import CONFIG, Done, Tally, World, world
from support.injection import Fault, Tracer, injecting
from support.side_by_side import side_by_side
from support.waiting import wait_until

pytestmark = [pytest.mark.crash, pytest.mark.integration]

Case = tuple[str, Fault]
"""Whose call, and how it fails."""
OFTEN = {"pwrite64": 60, "fdatasync": 60, "write": 30}
"""These come with every group: the error comes with one of so many."""
CALLS = {
    "log": ("pwrite64", "fdatasync", "openat", "fsync", "rename", "unlink", "ftruncate", "write"),
    "flush": ("write", "fsync", "openat", "rename"),
}
ERRORS = ("EIO", "ENOSPC", "EINTR")
WORLDS = 6
PATIENCE_S = 3.0
"""So long a call is waited for that may not come: then the case does not count."""
ENDED = 74
"""The only exit code of a log writer whose log has failed."""
CONFIG_HERE = CONFIG + "recycle = %s\n"


def schedule(rng: random.Random) -> list[Case]:
    """Every role, call and error, single and lasting, shuffled."""
    plan: list[Case] = []
    for role, calls in CALLS.items():
        for call in calls:
            # Its `write` goes to its bells: nothing of the disk can fail there.
            for error in ("EINTR",) if (role, call) == ("log", "write") else ERRORS:
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
        self.world.until(f"process {role}", lambda: self._lives(role))
        pid = self._pids(role)[0]
        before = self.world.struck
        with injecting(pid, fault, self.world.daemon.root / "strace") as tracer:
            if self._struck(role, tracer):
                self.world.met()
                if ends_the_log_writer(role, fault):
                    self.world.until("end of the log writer", lambda: self._ended(tracer))
        self.world.await_progress()
        if self.world.struck > before and not self._torn(pid):
            ended = "" if pid in self._pids(role) else f", exit {self._exit_code(pid)}"
            self.met[f"{role} {fault.calls} {fault.how}{ended}"] += 1
            self._judge(role, fault, ended)

    def _torn(self, pid: int) -> bool:
        """Whether strace left a call of its that it held: the call then fails with ENOSYS."""
        lines = self.world.daemon.log_path.read_text(errors="replace").splitlines()
        died = next((at for at, line in enumerate(lines) if f'"pid": {pid}, "code"' in line), 0)
        return any(f"(os error {errno.ENOSYS})" in line for line in lines[max(0, died - 8) : died])

    def _judge(self, role: str, fault: Fault, ended: str) -> None:
        if fault.how == "error=EINTR":
            assert not ended, f"EINTR ended {role}{ended}"
        elif role == "log":
            may = ("", f", exit {ENDED}")
            assert ended in (may[1:] if ends_the_log_writer(role, fault) else may), ended
        else:
            # A `write` of its, too, may be to a bell: libuv gives up when its own cannot be rung.
            gave_up = f", exit {-signal.SIGABRT}" if fault.calls == "write" else ""
            assert ended in ("", gave_up), f"{role} ended{ended}"

    def _pids(self, role: str) -> list[int]:
        return processes.find(self.world.daemon, role)

    def _lives(self, role: str) -> bool:
        """Whether it has a life that has begun its work, and no other one is still to end."""
        ready = [one["pid"] for one in self.world.daemon.status()["processes"] if one["ready"]]
        pids = self._pids(role)
        return len(pids) == 1 and pids[0] in ready

    def _struck(self, role: str, tracer: Tracer) -> bool:
        """Whether the error came, within some time of load."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            self.world.load.keep_in_flight(300)
            if tracer.injected():
                return True
            if tracer.pid not in self._pids(role):
                return False
            self.world.pause(0.002)
        return False

    def _ended(self, tracer: Tracer) -> bool:
        self.world.load.keep_in_flight(300)
        return tracer.pid not in self._pids("log")

    def _exit_code(self, pid: int) -> int:
        """What the supervisor told of its end."""

        def told() -> list[int]:
            lines = self.world.daemon.log_path.read_text(errors="replace").splitlines()
            facts = [json.loads(line) for line in lines if '"child_died"' in line]
            return [fact["code"] for fact in facts if fact["pid"] == pid]

        wait_until("word of its end", told)
        return told()[-1]


def ends_the_log_writer(role: str, fault: Fault) -> bool:
    """An error of the disk ends it, always."""
    return role == "log" and fault.how == "error=EIO"


@dataclass
class Part:
    """What one world goes through: cases in turn until so many have counted."""

    wanted: int
    recycle: bool
    seed: int


def inject_all(part: Part) -> Done:
    """One world."""
    rng = random.Random(part.seed)
    plan: list[Case] = []
    with world(config=CONFIG_HERE % str(part.recycle).lower()) as made:
        injector = Injector(made)
        while made.struck < part.wanted:
            plan = plan or schedule(rng)
            role, fault = plan.pop()
            try:
                injector.one(role, fault)
            except AssertionError as error:
                raise AssertionError(f"{role}, {fault}: {error}\n{made.told()}") from error
        return made.done(injector.met)


@pytest.mark.timeout(1500)
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a file system of its own")
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace: tools/setup.sh test")
def test_a_call_that_fails_loses_nothing_and_ends_at_most_its_process(
    attack: Attack, capsys: pytest.CaptureFixture[str]
) -> None:
    tally, worlds = Tally(attack, "failing call of log writer or flusher"), attack.cases(1, WORLDS)
    wanted = attack.cases(4, 28)
    # Segments that are made anew and unlinked are more calls than such as are used again.
    parts = [Part(wanted, at % 3 == 2, attack.rng.randrange(1 << 31)) for at in range(worlds)]
    with capsys.disabled():
        for done in side_by_side(inject_all, parts):
            tally.add(done)
            print(f"\n  {tally.cases} errors, {tally.judged.acknowledged} told", end="")
        print()
        tally.report()
