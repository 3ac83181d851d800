"""Runs several worlds of one attack at once, each in a process of its own.

Most of a strike is waiting: for a start, a sync, a process's end. The processes are forked before
anything else is started, and end with the test, however that ends.
"""

import multiprocessing
import os
import pwd
import signal
import sys
import traceback
from collections.abc import Callable, Generator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import TypeVar, cast

from certeusd.pdeathsig import set_parent_death_signal
from certeusd.supervisor.postgres_install import User
from support.postgres import installations, reachable

T = TypeVar("T")
J = TypeVar("J")

AT_ONCE = 3
FORK = multiprocessing.get_context("fork")


def side_by_side(run: Callable[[J], T], jobs: Sequence[J], at_once: int = AT_ONCE) -> Generator[T]:
    """What each job came to, in the order of their ends; the first that fails ends all."""
    if os.getuid() == 0:
        # A copy of the binaries belongs to the process that ends last.
        name, _, uid, gid, *_ = pwd.getpwnam("nobody")
        for binaries in installations().values():
            reachable(binaries, User(name, uid, gid, (gid,)))
    waiting, running = list(jobs), dict[Connection, ForkProcess]()
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                ours, theirs = FORK.Pipe(duplex=False)
                process = FORK.Process(target=_run, args=(run, waiting.pop(0), theirs))
                process.start()
                theirs.close()
                running[ours] = process
            ended = cast("Connection", wait(list(running))[0])
            try:
                value, cause = ended.recv()
            except EOFError:
                value, cause = None, "a world ended without a word"
            running.pop(ended).join()
            ended.close()
            if cause:
                raise AssertionError(cause)
            yield cast("T", value)
    finally:
        for process in running.values():
            process.terminate()
        for ours, process in running.items():
            process.join(30)
            process.kill()
            ours.close()


def _run(run: Callable[[J], T], job: J, told: Connection) -> None:
    """Go with the parent; and when told to go, clean up first."""
    signal.signal(signal.SIGTERM, _end)
    set_parent_death_signal(signal.SIGTERM)
    try:
        told.send((run(job), ""))
    except Exception as error:
        told.send((None, "".join(traceback.format_exception(error))))


def _end(_signum: int, _frame: object) -> None:
    sys.exit(1)
