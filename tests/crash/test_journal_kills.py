"""A kill of any process while the journal grows: each entry is in the log once, in order."""

import functools
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from support import journals
from support.daemon import Daemon, scratch_dir
from support.journals import JournalFile, SteadyWriter, config, numbers, wait_for_events
from support.waiting import wait_until

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(bool(journals.why_not()), reason=journals.why_not() or ""),
]

KILLS, WAIT_S = 4, 90.0


@pytest.fixture
def root() -> Iterator[Path]:
    with scratch_dir() as root:
        yield root


@pytest.fixture
def daemon(root: Path) -> Iterator[Daemon]:
    daemon = Daemon(root, config(root / "journal"), doors=["journal"])
    try:
        yield daemon.start()
    finally:
        daemon.clean_up()


@pytest.fixture
def writer(root: Path, daemon: Daemon) -> Iterator[SteadyWriter]:
    """Appends to the journal all the while."""
    writer = SteadyWriter(JournalFile(root / "journal" / "a.journal"))
    writer.start()
    yield writer
    if writer.is_alive():
        writer.end()


def journalctl_pids(daemon: Daemon) -> list[int]:
    """The door's children, once they are what they are to be."""
    found = list[int]()
    for pid in daemon.pids("journal"):
        try:
            children = psutil.Process(pid).children()
            found += [child.pid for child in children if child.name() == "journalctl"]
        except psutil.Error:
            continue
    return found


def has_ended(pid: int) -> bool:
    return not psutil.pid_exists(pid)


def more(daemon: Daemon, count: int) -> None:
    before = int(daemon.status()["durable_seq"])
    wait_for_events(daemon, before + count)


def ends_whole(daemon: Daemon, writer: SteadyWriter) -> None:
    writer.end()
    wait_for_events(daemon, writer.written)
    assert numbers(daemon) == list(range(writer.written))
    assert daemon.stop() == 0


@pytest.mark.parametrize("role", ["journal", "worker", "log", "flush"])
def test_a_process_is_killed(daemon: Daemon, writer: SteadyWriter, role: str) -> None:
    for _ in range(KILLS):
        more(daemon, 100)
        daemon.kill_next(role)
    more(daemon, 100)
    ends_whole(daemon, writer)


def test_journalctl_is_killed(daemon: Daemon, writer: SteadyWriter) -> None:
    (door,) = daemon.pids("journal")
    for _ in range(KILLS):
        more(daemon, 100)
        for pid in wait_until("journalctl", lambda: journalctl_pids(daemon), WAIT_S):
            os.kill(pid, signal.SIGKILL)
    more(daemon, 100)
    assert daemon.pids("journal") == [door]
    ends_whole(daemon, writer)


@pytest.mark.parametrize("target", ["all", "supervisor"])
def test_the_daemon_is_killed(daemon: Daemon, writer: SteadyWriter, target: str) -> None:
    for _ in range(KILLS):
        more(daemon, 100)
        children = wait_until("journalctl", lambda: journalctl_pids(daemon), WAIT_S)
        daemon.kill(target)
        for pid in children:
            wait_until("its end", functools.partial(has_ended, pid), WAIT_S)
        daemon.start()
    ends_whole(daemon, writer)
