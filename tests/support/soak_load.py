"""The producer processes of a soak: started, replaced when one is killed, and asked."""

import select
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from support.daemon import Daemon
from support.soak_page import Field, LifePage, Shared, State

SETS = ("", "ids", "async", "async-ids")
"""One producer at a time of each kind: its flags."""
GRANT = 300
TICKETS_A_LIFE = 100_000
LOOKS, LOOK_S = 40, 0.0002


@dataclass
class Life:
    """One producer process."""

    number: int
    source: str
    flags: str
    predecessor: int
    page: LifePage
    process: "subprocess.Popen[bytes]"
    killed: bool = False

    @property
    def with_ids(self) -> bool:
        return "ids" in self.flags


class Load:
    """All producers of one daemon. ``lives`` keeps those that have ended."""

    def __init__(self, daemon: Daemon, first_life: int = 1) -> None:
        self.daemon = daemon
        self.folder = daemon.root / "soak"
        self.folder.mkdir()
        self.page = Shared.page(self.folder)
        self.lives: list[Life] = []
        self.current: list[Life] = []
        self._next = first_life
        for index, flags in enumerate(SETS):
            self.current.append(self._start(f"soak/{index}", flags, 0))

    @property
    def next_life(self) -> int:
        return self._next

    def _start(self, source: str, flags: str, predecessor: int) -> Life:
        number, self._next = self._next, self._next + 1
        page = LifePage(self.folder, number)
        with (self.folder / "errors").open("ab") as errors:
            process = subprocess.Popen(
                [sys.executable, "-m", "support.soak_producer", self.daemon.ingest,
                 str(self.folder), str(number), source, flags or "plain", str(predecessor)],
                stdout=errors, stderr=errors, cwd=Path(__file__).parents[1],
            )  # fmt: skip
        life = Life(number, source, flags, predecessor, page, process)
        self.lives.append(life)
        return life

    def replace(self, index: int) -> None:
        """The producer was killed: a successor takes its place, and with ids its events."""
        old = self.current[index]
        old.killed = True
        old.process.wait(30)
        self.current[index] = self._start(old.source, old.flags, old.number)

    def grant(self, count: int) -> None:
        """Let every producer append so many more events."""
        self.page.set(Field.GRANTED, self.page.get(Field.GRANTED) + count)

    def spent(self) -> bool:
        """Whether some producer has appended all that it may."""
        granted = self.page.get(Field.GRANTED)
        pages = (life.page for life in self.current)
        return any(p.get(Field.APPENDED) >= granted - p.get(Field.BASE) for p in pages)

    def keep_in_flight(self, count: int) -> bool:
        """Whether more than so many events are in flight; lets producers append if not.

        What is granted may be settled within milliseconds: so it looks closely for a while.
        """
        if self.in_flight() > count:
            return True
        for index, life in enumerate(self.current):
            # A page has so many tickets.
            if life.page.get(Field.APPENDED) > TICKETS_A_LIFE:
                life.process.kill()
                self.replace(index)
        if self.spent():
            self.grant(GRANT)
            for _ in range(LOOKS):
                select.select([], [], [], LOOK_S)
                if self.in_flight() > count:
                    return True
        return False

    def in_flight(self) -> int:
        """Events appended and not settled, of the producers that live."""
        return sum(life.page.in_flight() for life in self.current)

    def settled(self) -> int:
        return sum(life.page.get(Field.SETTLED) for life in self.lives)

    def check(self) -> None:
        """No producer that was not killed has ended."""
        for life in self.current:
            assert life.process.poll() is None, f"a producer ended:\n{self.errors()}"

    def errors(self) -> str:
        return (self.folder / "errors").read_text(errors="replace")[-4000:]

    def all_live(self) -> bool:
        self.check()
        return all(life.page.get(Field.STATE) == State.LIVE for life in self.current)

    def finish(self, timeout: float = 120.0) -> None:
        """Let every producer settle what it has, and end."""
        self.page.set(Field.STOP, 1)
        for life in self.current:
            life.process.wait(timeout)
            assert life.process.returncode == 0, f"a producer failed:\n{self.errors()}"
            assert life.page.get(Field.STATE) == State.CLOSED

    def renew(self) -> None:
        """New producers take the places of those that have finished."""
        self.page.set(Field.STOP, 0)
        self.current = [self._start(life.source, life.flags, 0) for life in self.current]

    def end(self) -> None:
        """By force, and without a trace."""
        for life in self.lives:
            if life.process.poll() is None:
                life.process.kill()
            life.process.wait()
            life.page.close()
        self.page.close()
