"""What the control API needs of the supervisor; the supervisor implements it, tests fake it."""

from pathlib import Path
from typing import Protocol

from certeusd.board import Board
from certeusd.control.types import Process, Reloaded, Status


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

    def workers(self) -> list[Process]:
        """One row a worker."""
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

    async def reload(self) -> Reloaded:
        """Read the configuration again and have it hold.

        Raises:
            ExitError: it cannot be used; a reload is under way; a child is not ready again.
        """
        ...
