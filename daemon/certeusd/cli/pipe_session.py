"""What both forms of `certeus pipe` have: how lines become events, and what is told meanwhile."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from certeusd.cli.appending import Complaints, Row, not_connected, object_of, text_of
from certeusd.cli.pipe_stop import Stop
from certeusd.human import human_count

if TYPE_CHECKING:
    from certeus import Producer

COMPLAINTS_AGAIN_S = 60.0
CONNECT_SLICE_S = 1.0
CONNECT_TIMEOUT_S = 5.0
AWAY_TOLD_AFTER_S = 5.0
PROGRESS_S = 0.5


@dataclass(frozen=True)
class Manner:
    """How lines become events, the same for all of them."""

    type: str
    source: str
    subject: str | None
    json_lines: bool

    def row(self, line: bytes, place: object = None, id: str | None = None) -> Row:
        """Return the event of a line."""
        data = object_of(line) if self.json_lines else text_of(line)
        if self.subject is None and id is None:
            return data
        from certeus import Event

        return Event(data, subject=self.subject, id=id)

    def is_blank(self, line: bytes) -> bool:
        """Whether a line is nothing at all: between objects, never in text."""
        return self.json_lines and not line.strip()


class Link:
    """Tells when the daemon is away for a while, and that it is back."""

    def __init__(self, producer: "Producer", tell: Callable[[str], None]) -> None:
        self._producer = producer
        self._tell = tell
        self._away_since: float | None = None
        self._told = False

    def look(self) -> None:
        """Look once."""
        statistics = self._producer.statistics()
        if statistics.connected:
            if self._told:
                self._tell("certeusd answers again")
            self._away_since, self._told = None, False
            return
        now = time.monotonic()
        self._away_since = self._away_since or now
        if not self._told and now - self._away_since >= AWAY_TOLD_AFTER_S:
            self._told = True
            why = f" ({statistics.last_loss})" if statistics.last_loss else ""
            self._tell(f"certeusd is away{why}; lines wait, nothing is lost")


class Progress:
    """A count on a terminal, twice a second; elsewhere nothing."""

    def __init__(self, producer: "Producer") -> None:
        self._producer = producer
        self._shown_at = 0.0
        self._shown = False
        self._terminal = sys.stderr.isatty()

    def look(self) -> None:
        """Show it, if it is time."""
        now = time.monotonic()
        if self._terminal and now - self._shown_at >= PROGRESS_S:
            self._shown_at, self._shown = now, True
            settled = self._producer.statistics().settled
            click.echo(f"\r{human_count(settled)} lines settled ", nl=False, err=True)

    def clear(self) -> None:
        """Leave the line to others."""
        if self._shown:
            self._shown = False
            click.echo("\r\x1b[K", nl=False, err=True)


class Session:
    """The producer, and what is looked at whenever `pipe` waits."""

    def __init__(self, producer: "Producer", stop: Stop) -> None:
        self.producer = producer
        self.stop = stop
        self._progress = Progress(producer)
        self._link = Link(producer, self.tell)
        self.complaints = Complaints(self.tell, COMPLAINTS_AGAIN_S)

    def tell(self, message: str) -> None:
        """Print one line to stderr."""
        self._progress.clear()
        click.echo(f"certeus: {message}", err=True)

    def look(self) -> None:
        """Look at daemon, terminal and signals; raises Ended when settling took too long."""
        self._link.look()
        self._progress.look()
        self.stop.check()

    def end(self) -> None:
        """Leave the terminal as it was."""
        self._progress.clear()


def connect(socket: str | None, source: str, stop: Stop, wait: bool) -> "Producer | None":
    """Connect; with `wait` for as long as nobody answers. None: it was told to end."""
    import certeus

    told = False
    while not stop.asked:
        try:
            timeout = CONNECT_SLICE_S if wait else CONNECT_TIMEOUT_S
            return certeus.connect(socket, source=source, timeout=timeout)
        except certeus.ConnectError as error:
            if not wait or error.reason != "unreachable":
                raise not_connected(error) from error
            if not told:
                told = True
                click.echo(f"certeus: waiting: {not_connected(error)}", err=True)
            stop.wait(CONNECT_SLICE_S)
    return None
