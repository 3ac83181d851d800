"""A certeusd to be measured: started on the disk under test, asked what it costs.

Its configuration is the default one. PostgreSQL is its embedded server, or one of Debian's; either
is a system of its own, and none of what it costs is counted as certeus's.
"""

import os
import signal
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

from certeus_bench import harness
from certeus_bench.peers import running
from certeus_bench.scenario import Context

PRODUCER = [sys.executable, "-m", "certeus_bench.ledger.program"]
REQUESTER = [sys.executable, "-m", "certeus_bench.ledger.http_program"]
POSTGRES = "postgres"


class System:
    """One running daemon."""

    def __init__(self, daemon: harness.Daemon) -> None:
        self.daemon = daemon
        supervisor = psutil.Process(daemon.pid)
        self.processes = [supervisor, *_kin(supervisor)]
        """Those of certeusd: without PostgreSQL's."""

    def producer(self, number: int, *arguments: object) -> list[str]:
        """Command of a producer with a source of its own."""
        return [*PRODUCER, self.daemon.socket, f"bench/{number}", *map(str, arguments)]

    def requester(self, number: int, *arguments: object, over_http: bool) -> list[str]:
        """Command of a process that waits for each list, over HTTP or through the ring."""
        socket = self.daemon.api if over_http else self.daemon.socket
        return [*REQUESTER, str(socket), f"bench/{number}", *map(str, arguments)]

    def process(self, kind: str) -> psutil.Process:
        """The one process of a kind: ``supervisor``, ``worker``, ``log`` or ``flush``."""
        (found,) = (process for process in self.processes if _kind(process) == kind)
        return found

    def cpu_ns(self) -> dict[str, int]:
        """Processor time so far by kind of process, to the nanosecond."""
        spent: dict[str, int] = {}
        for process in self.processes:
            spent[_kind(process)] = spent.get(_kind(process), 0) + _scheduled_ns(process.pid)
        return spent

    def cpu(self) -> float:
        """Processor time so far of all of certeus, in seconds."""
        return sum(self.cpu_ns().values()) / 1e9

    def postgres_seconds(self) -> float:
        """Processor time so far of the embedded PostgreSQL."""
        children = psutil.Process(self.daemon.pid).children()
        return running.cpu_seconds(one for one in children if one.name() == POSTGRES)

    @contextmanager
    def flusher_paused(self) -> Generator[None, None, None]:
        """Nothing is delivered for the length of a block, which is what the log is for."""
        flusher = self.process("flush")
        flusher.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            flusher.send_signal(signal.SIGCONT)


@contextmanager
def started(
    context: Context, environment: Mapping[str, str] | None = None
) -> Generator[System, None, None]:
    """A daemon with an empty log, and a database that is there, for the length of a block."""
    with harness.started(context.home, dict(environment or {})) as daemon:
        daemon.dsn()
        yield System(daemon)


def _kin(supervisor: psutil.Process) -> list[psutil.Process]:
    return [child for child in supervisor.children() if "certeusd." in _command(child)]


def _kind(process: psutil.Process) -> str:
    return harness.kind_of(_command(process))


def _command(process: psutil.Process) -> str:
    return " ".join(process.cmdline())


def _scheduled_ns(pid: int) -> int:
    """Of all its threads: what the scheduler counted, which is finer than ticks."""
    tasks = (f"/proc/{pid}/task/{task}/schedstat" for task in os.listdir(f"/proc/{pid}/task"))
    return sum(int(Path(task).read_text().split()[0]) for task in tasks)
