"""Disks that stand still, turn read-only or are slow, under load: told, harmless, and over.

A freeze stops every write of the file system for longer than a stall is told after; a read-only
remount fails them; a slow disk has each sync of the log take longer (strace delays the call).
"""

import os
import shutil

import pytest

from support import processes
from support.attack import Attack
from support.disk_world import Tally, World, world
from support.injection import Fault, injecting

pytestmark = [pytest.mark.crash, pytest.mark.integration]

DELAYS_US = (20_000, 300_000, 4_000_000)


def freeze(made: World) -> None:
    """Nothing is written until the thaw; the daemon says so meanwhile."""
    made.await_load()
    made.disk.freeze()
    try:
        made.until("word of the stall", lambda: stalled(made))
        made.met()
    finally:
        made.disk.thaw()
    made.await_progress()
    made.until("end of the stall", lambda: "log-stalled" not in made.reasons())


def stalled(made: World) -> bool:
    made.load.keep_in_flight(300)
    return "log-stalled" in made.reasons()


def read_only(made: World) -> None:
    """An emergency: the kernel makes the file system read-only, an administrator brings it back.

    A file system that is open for writing refuses an orderly remount: everything is killed first,
    and a daemon starts on what is now read-only.
    """
    made.await_load()
    made.met()
    made.daemon.kill("all")
    # Busy, for as long as one of the dead still lets go of its files.
    made.until("read-only disk", lambda: made.disk.remount("ro").returncode == 0)
    made.daemon.start(ready=False)
    made.pause(0.5)
    done = made.disk.remount("rw")
    assert done.returncode == 0, done.stderr
    made.until("a daemon that takes events", lambda: started_again(made))
    made.await_progress()


def started_again(made: World) -> bool:
    """What ended because it could write nothing is started again, as systemd does."""
    if made.daemon.process is not None and made.daemon.process.poll() is not None:
        made.daemon.start(ready=False)
    return made.daemon.takes_events()


def slow(made: World, delay_us: int) -> None:
    """Each sync takes so long; events are acknowledged all the same, later."""
    made.await_load()
    pid = processes.find(made.daemon, "log")[0]
    fault = Fault("fdatasync", f"delay_enter={delay_us}", "1+")
    with injecting(pid, fault, made.daemon.root / "strace") as tracer:
        made.until("slow sync", lambda: made.busy() and tracer.injected())
        made.met()
        made.await_progress()
    assert pid in processes.find(made.daemon, "log"), "a slow disk ended the log writer"
    made.await_progress()


@pytest.mark.timeout(600)
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a file system of its own")
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace: tools/setup.sh test")
def test_a_disk_that_stands_still_or_is_slow_is_told_and_loses_nothing(attack: Attack) -> None:
    tally = Tally(attack, "disk frozen, read-only, or slow")
    with world() as made:
        slow(made, DELAYS_US[0])
        for _ in range(attack.cases(0, 3)):
            freeze(made)
            read_only(made)
            for delay_us in DELAYS_US:
                slow(made, delay_us)
        tally.add(made.done())
    tally.report()
