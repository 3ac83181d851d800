"""What the control API needs of the supervisor; the supervisor implements it, tests fake it."""

from pathlib import Path
from typing import Protocol

from certeusd.board import Board
from certeusd.channel import AskLetters
from certeusd.control.measures import Measures
from certeusd.control.sla import Sla
from certeusd.control.types import (
    Configuration,
    Differences,
    Process,
    Producers,
    Reloaded,
    Scaling,
    Status,
)
from certeusd.logs import Module


class Orders(Protocol):
    """What operators and admins order of the children."""

    async def restart_worker(self, index: int) -> bool:
        """Have a worker begin anew; False: there is none of this number.

        Raises:
            ExitError: others are begun anew; it is not ready again.
        """
        ...

    async def pause_flush(self) -> None:
        """Deliver nothing until `resume_flush`.

        Raises:
            ExitError: children are begun anew just now.
        """
        ...

    def resume_flush(self) -> bool:
        """Deliver again; False: it was not paused."""
        ...

    def log_level(self, module: Module, level: str, for_s: float | None) -> None:
        """Log from a level on, for so many seconds; none: until the next start."""
        ...

    def gap(self) -> tuple[int, int] | None:
        """First and last number of the gap at which the flusher is stopped."""
        ...

    def accept_gap(self, first_seq: int, last_seq: int) -> None:
        """Let the flusher write off this very gap."""
        ...

    def accept_dead_letters(self, until_seq: int) -> bool:
        """Let refused rows become dead letters, however many; False without a flusher."""
        ...

    def retry(self) -> bool:
        """Let the flusher try PostgreSQL now; False without a flusher."""
        ...

    async def ask_letters(self, ask: AskLetters) -> bytes:
        """Have the flusher show, deliver again or drop dead letters; the JSON of its answer.

        Raises:
            NoAnswerError: within a bounded time, why there is none.
        """
        ...


class Census(Protocol):
    """Who is served."""

    async def take(self) -> Producers:
        """Ask the workers for their sessions; within a second."""
        ...


class Backend(Protocol):
    """Everything here answers at once and at any time."""

    @property
    def board(self) -> Board:
        """The shared page of counters."""
        ...

    @property
    def takes_events(self) -> bool:
        """Whether the state is `ready` or `degraded`."""
        ...

    def status(self) -> Status:
        """Everything about the service."""
        ...

    def measures(self) -> Measures:
        """What is measured for `/metrics`."""
        ...

    def sla(self) -> Sla:
        """Compare what was measured with the objectives."""
        ...

    def workers(self) -> list[Process]:
        """One row a worker."""
        ...

    def scaling(self) -> Scaling:
        """How many workers there are, may be, and why."""
        ...

    def processes(self) -> list[Process]:
        """Log writer and flusher."""
        ...

    def dsn(self, show_password: bool) -> str | None:
        """URL of the database, once server and schema are there."""
        ...

    @property
    def log_dir(self) -> Path:
        """Where the segments are."""
        ...

    @property
    def followers_dir(self) -> Path:
        """Where the followers' positions are."""
        ...

    def drain(self) -> None:
        """Accept no more, finish what is held, end."""
        ...

    @property
    def census(self) -> Census:
        """The producers; the one question that waits for a child, for a second at most."""
        ...

    @property
    def orders(self) -> Orders:
        """What may be ordered of the children."""
        ...

    def configuration(self) -> Configuration:
        """What the daemon runs with."""
        ...

    def differences(self) -> Differences:
        """What the files and variables say by now.

        Raises:
            ExitError: 78 they cannot be used.
        """
        ...

    async def reload(self) -> Reloaded:
        """Read the configuration again and have it hold.

        Raises:
            ExitError: it cannot be used; a reload is under way; a child is not ready again.
        """
        ...
