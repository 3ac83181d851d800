"""What the stages of a load are doing, looked at from outside about once a second.

Positions and counters come from the control API and the producers' page, time on processors from
the kernel: `/proc/<pid>/task/*/schedstat` has ns on a processor and ns in line for one. Both
together are what a thread wanted: on a machine that is full, a stage that always wants more is at
its end though it gets half a processor.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import msgspec
import psutil

from certeus_bench.load.progress import Page, Word
from certeusd.control.client import ControlClient

SAMPLE_SECONDS = 0.5
PRODUCER, POSTGRES, MACHINE = "producer", "postgres", "machine"
"""Names in `Sample.busy_s`, beside those of certeus's own processes."""


class Target(NamedTuple):
    """The certeusd under load."""

    socket: str
    control: ControlClient


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """All stages at one moment; counts and seconds since their process began."""

    at_s: float
    """Since the load began."""
    due: int = 0
    sent: int = 0
    settled: int = 0
    producers: int = 1
    ring_full_s: float = 0.0
    """Of all producers: events were due and their ring had no room."""
    ring_used_bytes: int = 0
    """Of the fullest ring."""
    durable_seq: int = 0
    flushed_seq: int = 0
    sync_s: float = 0.0
    groups: int = 0
    busy_s: dict[str, float] = {}
    """On a processor or in line for one, of the main thread of ``worker-0``, ``producer-3``, ..."""
    cpu_s: dict[str, float] = {}
    """On a processor, of all threads; ``machine``: of everybody."""
    line_s: dict[str, float] = {}
    """In line for one, of all threads."""

    @property
    def lag_events(self) -> int:
        """Durable and not in PostgreSQL."""
        return self.durable_seq - self.flushed_seq


class _Process(msgspec.Struct):
    name: str
    pid: int | None
    counters: dict[str, int]


class Status(msgspec.Struct):
    """What of `certeus status --json` is used here."""

    pid: int
    durable_seq: int
    flushed_seq: int
    workers: list[_Process]
    processes: list[_Process]

    def counter(self, process: str, name: str) -> int:
        """One counter of one process."""
        return next(one.counters[name] for one in self.processes if one.name == process)


def status_of(target: Target) -> Status:
    """Ask it."""
    return msgspec.convert(target.control.get("/v1/status"), Status)


class Scheduled(NamedTuple):
    """What the kernel's scheduler says of a process, in seconds since it began."""

    busy_s: float = 0.0
    cpu_s: float = 0.0
    line_s: float = 0.0


def scheduled(pid: int) -> Scheduled:
    """As in `Sample`; zeros for a process that is gone."""
    found = Scheduled()
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            ran, waited, _ = (int(word) / 1e9 for word in (task / "schedstat").read_text().split())
            busy_s = ran + waited if task.name == str(pid) else found.busy_s
            found = Scheduled(busy_s, found.cpu_s + ran, found.line_s + waited)
    return found


def take(target: Target, page: Page, producers: int, at_s: float) -> Sample:
    """Look at everything once."""
    status = status_of(target)
    pids = {one.name: one.pid for one in [*status.workers, *status.processes] if one.pid}
    pids |= {f"{PRODUCER}-{at}": int(page.row(at)[Word.PID]) for at in range(producers)}
    pids |= {f"{POSTGRES}-{pid}": pid for pid in _postgres_pids(status.pid)}
    found = {name: scheduled(pid) for name, pid in pids.items()}
    times = psutil.cpu_times()
    return Sample(
        at_s=at_s,
        due=page.total(Word.DUE),
        sent=page.total(Word.SENT),
        settled=page.total(Word.SETTLED),
        producers=producers,
        ring_full_s=page.total(Word.RING_FULL_NS) / 1e9,
        ring_used_bytes=page.largest(Word.RING_USED_BYTES),
        durable_seq=status.durable_seq,
        flushed_seq=status.flushed_seq,
        sync_s=status.counter("log", "sync_ns_sum") / 1e9,
        groups=status.counter("log", "groups_total"),
        busy_s={name: one.busy_s for name, one in found.items()},
        line_s={name: one.line_s for name, one in found.items()},
        cpu_s={name: one.cpu_s for name, one in found.items()}
        | {MACHINE: times.user + times.nice + times.system + times.irq + times.softirq},
    )


def _postgres_pids(supervisor: int) -> list[int]:
    """The embedded server's processes; an external one's are not ours to see."""
    with contextlib.suppress(psutil.Error):
        children = psutil.Process(supervisor).children(recursive=True)
        return [child.pid for child in children if child.name() == POSTGRES]
    return []


class Sampler:
    """A thread that takes samples for the length of a block, and shows each to somebody."""

    def __init__(
        self,
        target: Target,
        page: Page,
        producers: int,
        begin_ns: int,
        show: Callable[[list[Sample]], None],
    ) -> None:
        self.samples: list[Sample] = []
        self._look = partial(take, target, page, producers)
        self._page = page
        self._begin_ns = begin_ns
        self._show = show
        self._over = threading.Event()
        self._failed: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        if self._failed is not None and error is None:
            raise self._failed

    def _run(self) -> None:
        count = 0
        while not self._over.is_set():
            try:
                self.samples.append(self._look((time.monotonic_ns() - self._begin_ns) / 1e9))
            except Exception as failed:  # told by whoever waits for the load
                self._failed = failed
                self._page.stop()
                return
            self._show(self.samples)
            count += 1
            next_ns = self._begin_ns + round(count * SAMPLE_SECONDS * 1e9)
            self._over.wait(max(0, next_ns - time.monotonic_ns()) / 1e9)
