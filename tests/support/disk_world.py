"""A daemon whose state is on a disk that a test harms, with producers that outlive the harm.

PostgreSQL is another machine's, as it were: it stays, so that a log which went back behind what it
has delivered is seen as `diverged`. ``embedded`` puts it onto the harmed disk instead.
"""

import contextlib
import select
from collections import Counter
from collections.abc import Callable, Generator
from dataclasses import dataclass

from support import processes
from support.attack import Attack, Outcome
from support.daemon import Daemon, scratch_dir
from support.disks import Disk, small_disk
from support.postgres import Server, installations, server
from support.soak_load import Load
from support.soak_oracle import Judged, Oracle
from support.soak_page import Field
from support.waiting import wait_until

IN_FLIGHT_MIN = 100
HUNG_AFTER_S = 90.0
CONFIG = """
[log]
segment_bytes = 4194304
disk_reserve_bytes = 0
bytes_max = 67108864
"""


class MortalDaemon(Daemon):
    """Ends with the test process, however that ends: nothing keeps its disk mounted."""

    def command(self) -> list[str]:
        return ["setpriv", "--pdeathsig", "KILL", *super().command()]

    def pids(self, role: str) -> list[int]:
        """A dead disk does not even give PostgreSQL's pid file: the process is a child, too."""
        return processes.find(self, role) if role == "postgres" else super().pids(role)


class World:
    """One daemon, its disk and its producers."""

    def __init__(self, daemon: Daemon, disk: Disk, load: Load, server: Server | None) -> None:
        self.daemon = daemon
        self.disk = disk
        self.load = load
        self.server = server
        self.struck = 0
        self.in_flight = 1 << 30

    def until(
        self, what: str, condition: Callable[[], object], timeout: float = HUNG_AFTER_S
    ) -> None:
        wait_until(what, condition, timeout)

    def pause(self, seconds: float) -> None:
        """A moment of a strike: what it meets is counted, not how long it was."""
        select.select([], [], [], seconds)

    def busy(self) -> bool:
        """Whether enough is in flight to strike; lets producers append."""
        return self.load.keep_in_flight(IN_FLIGHT_MIN)

    def await_load(self) -> None:
        self.until("producers with a session", self.load.all_live)
        self.until("events in flight", self.busy)

    def met(self) -> None:
        """A strike was made just now: it counts if it met events in flight."""
        in_flight = self.load.in_flight()
        if in_flight > IN_FLIGHT_MIN:
            self.struck += 1
            self.in_flight = min(self.in_flight, in_flight)

    def progressed(self, before: int) -> bool:
        self.load.keep_in_flight(0)
        return self.load.settled() > before

    def await_progress(self) -> None:
        """Something that is appended from now on, or was refused until now, is durable."""
        before = self.load.settled()
        self.until("progress after it", lambda: self.progressed(before))

    def reasons(self) -> set[str]:
        with contextlib.suppress(OSError):
            return {reason["code"] for reason in self.daemon.status()["reasons"]}
        return set()

    def compare(self) -> Judged:
        """Let all producers finish, and compare all that was ever told, to the byte."""
        self.until("daemon that takes events", self.daemon.takes_events)
        self.load.finish()
        self.daemon.certeus("wait", "--flushed", "--timeout", "100")
        return Oracle(self.daemon.dsn()).judge(self.load)

    def judge_case(self) -> None:
        """Compare in the middle; new producers go on."""
        judged = self.compare()
        harm = (judged.lost, judged.doubled, judged.reordered)
        assert harm == (0, 0, 0), f"lost, doubled, reordered: {harm}"
        self.load.renew()

    def judge(self) -> Judged:
        """Let all end well, and compare it to the byte."""
        judged = self.compare()
        assert self.daemon.stop() == 0
        self.daemon.certeus("log", "check")
        assert processes.leftovers(str(self.daemon.root)) == []
        return judged

    def done(self, met: Counter[str] | None = None) -> "Done":
        """What this world came to, at its end."""
        return Done(self.judge(), self.struck, self.in_flight, met or Counter())

    def told(self) -> str:
        """Everything that may say what held a case up."""
        load = self.load
        states = [(life.page.get(Field.STATE), life.page.in_flight()) for life in load.current]
        told = f"{load.settled()} settled, producers {states}, {self.reasons()}"
        return f"{told}\n{load.errors()}\n{self.daemon.log_tail(60)}"


@contextlib.contextmanager
def world(
    kind: str = "ext4", mebibytes: int = 512, config: str = CONFIG, *, embedded: bool = False
) -> Generator[World]:
    """A world at work."""
    with contextlib.ExitStack() as stack:
        outside = None
        if not embedded:
            installed = installations()
            outside = stack.enter_context(server(installed[max(installed)]))
            config += f'\n[postgres]\ndsn = "{outside.dsn()}"\n'
        disk = stack.enter_context(small_disk(kind, mebibytes))
        daemon = MortalDaemon(stack.enter_context(scratch_dir()), config)
        daemon.state_dir = disk.path / "state"
        stack.callback(daemon.clean_up)
        daemon.start()
        load = Load(daemon)
        stack.callback(load.end)
        yield World(daemon, disk, load, outside)


@dataclass
class Done:
    """What one world came to."""

    judged: Judged
    struck: int
    in_flight: int
    met: Counter[str]
    """How often which strike was made."""


class Tally:
    """The sum over the worlds of one attack, and its row."""

    def __init__(self, attack: Attack, name: str) -> None:
        self.attack = attack
        self.name = name
        self.judged = Judged()
        self.cases = 0
        self.in_flight = 1 << 30
        self.met: Counter[str] = Counter()

    def add(self, done: Done) -> None:
        self.judged.merge(done.judged)
        self.cases += done.struck
        self.in_flight = min(self.in_flight, done.in_flight)
        self.met += done.met

    def report(self) -> None:
        for name, count in sorted(self.met.items()):
            print(f"  {count:5} x {name}")
        judged = self.judged
        self.attack.report(
            Outcome(
                self.name, self.cases, judged.acknowledged, self.in_flight, judged.lost,
                judged.doubled, judged.reordered,
            )
        )  # fmt: skip
