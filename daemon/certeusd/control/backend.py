"""What the control API needs of the supervisor; the supervisor implements it, tests fake it."""

from typing import Protocol

from certeusd.board import Board
from certeusd.control.types import Process, Status


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

    def drain(self) -> None:
        """Accept no more, finish what is held, end."""
        ...

    def accept_gap(self) -> bool:
        """Let the flusher go on behind its gap; False if it does not wait for that."""
        ...
