"""`certeus pipe --follow`: files that grow and are rotated, each line once.

Position files move only after verdicts: a death at any moment makes the next start offer again what
had none, under the same ids.
"""

import os
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast
from zlib import crc32

from certeusd.cli.appending import Appender, Row
from certeusd.cli.pipe_file import Follower, Piece
from certeusd.cli.pipe_positions import Generation, PositionFile, default_file
from certeusd.cli.pipe_reading import Mark
from certeusd.cli.pipe_session import Manner, Session
from certeusd.cli.pipe_stop import Ended
from certeusd.control.client import ControlClient
from certeusd.exits import Exit, ExitError

POLL_S = 0.1


class Place(NamedTuple):
    """Where a line is."""

    name: str
    token: str
    start: int


class _Due(NamedTuple):
    """A mark, and the ticket that it waits for."""

    ticket: int
    follower: Follower
    generation: Generation
    mark: Mark


class _Rows:
    def __init__(self, manner: Manner) -> None:
        self._manner = manner
        self.is_blank = manner.is_blank

    def row(self, line: bytes, place: Place) -> Row:
        # The same place may hold another line, where a power cut took what was offered.
        return self._manner.row(line, id=f"{place.token}:{place.start}:{crc32(line):08x}")


def position_files(files: Sequence[str], state: str | None) -> list[PositionFile]:
    """Lock the position file of each."""
    paths = [os.path.abspath(one) for one in files]
    return [PositionFile(Path(state) if state else default_file(one)) for one in paths]


class Following:
    """All followed files, and the one producer of their lines."""

    def __init__(self, session: Session, followers: list[Follower], manner: Manner) -> None:
        self._session = session
        self._followers = followers
        self._due: deque[_Due] = deque()
        self.appender: Appender[Place] = Appender(
            session.producer,
            manner.type,
            _Rows(manner),
            session.complaints,
            name=lambda place: f"{place.name} byte {place.start}",
            waited=self._look,
        )

    @property
    def lost(self) -> int:
        """How often lines may be missing."""
        return sum(one.lost for one in self._followers)

    def run(self, *, once: bool) -> None:
        """Go on until a signal; with `once` until all is read. Then everything is settled.

        Raises:
            Ended: settling took too long; what had no verdict comes again.
            ExitError: a file cannot be followed any more; all before is settled.
        """
        failure: ExitError | None = None
        clean = False
        try:
            try:
                self._read(once)
            except ExitError as error:
                failure = error
                self._session.stop.ask()
            self.appender.settle()
            self._take()
            clean = True
        finally:
            for one in self._followers:
                one.close(clean=clean)
        if failure is not None:
            raise failure

    def _read(self, once: bool) -> None:
        stop = self._session.stop
        while not stop.asked:
            idle = True
            for follower in self._followers:
                piece = follower.step()
                if piece is not None:
                    idle = False
                    self._offer(follower, piece)
            self._look()
            if not idle:
                continue
            if once and not any(one.waiting for one in self._followers):
                for one in self._followers:
                    if not one.has_file:
                        raise ExitError(
                            Exit.FAILED, f"cannot follow {one.path}: not there; give a log file"
                        )
                return
            stop.wait(POLL_S)

    def _offer(self, follower: Follower, piece: Piece) -> None:
        reading, (cut, mark) = piece
        if not cut.lines:
            return
        follower.before_offer(reading)
        token = reading.generation.token
        places = [Place(reading.name, token, start) for start in cut.starts]
        self.appender.append(cut.lines, places)
        ticket = self.appender.last_ticket
        if self._due and self._due[-1][:3] == (ticket, follower, reading.generation):
            self._due.pop()
        self._due.append(_Due(ticket, follower, reading.generation, mark))

    def _take(self) -> None:
        settled = self.appender.take_verdicts()
        while self._due and self._due[0].ticket <= settled:
            due = self._due.popleft()
            due.follower.settled(due.generation, due.mark, self._seq(due.ticket))

    def _seq(self, ticket: int) -> int:
        try:
            return self._session.producer.receipt(ticket).seq
        except LookupError:
            return 0

    def _look(self) -> None:
        self._take()
        for one in self._followers:
            one.save_if_due()
        self._session.look()


def _look_at_window(session: Session, followers: Sequence[Follower], control: Path) -> None:
    """Tell if what a killed run had offered may not be known to the ledger any more."""
    kept = min((one.unclean_seq for one in followers if one.unclean_seq), default=0)
    if not kept:
        return
    try:
        dedup = ControlClient(control).get("/v1/status")["dedup"]
    except ExitError:
        return  # Who may append need not be one who may ask.
    first = cast(dict[str, int], dedup)["from_seq"]
    if first > kept + 1:
        session.tell(
            f"the dedup window begins at seq {first}, after the last line that is known to be there"
            f" ({kept}): lines of the moment before the last run ended may come twice; raise"
            " dedup.keys"
        )


def follow(
    session: Session,
    files: Sequence[str],
    kept: Sequence[PositionFile],
    manner: Manner,
    control: Path,
    *,
    once: bool,
) -> tuple[dict[str, object], int]:
    """Follow files; return the summary, and how many lines failed."""
    started = time.monotonic()
    followers = [
        Follower(path, file, manner, session.tell) for path, file in zip(files, kept, strict=True)
    ]
    _look_at_window(session, followers, control)
    following = Following(session, followers, manner)
    try:
        following.run(once=once)
    except Ended:
        count = len(following.appender.in_doubt())
        raise ExitError(
            Exit.TRY_AGAIN,
            f"cannot settle the last {count} lines in time; start it again: they are offered again,"
            " and each is there once",
        ) from None
    summary = following.appender.summary(started) | {"lost": following.lost}
    return summary, following.appender.rejected + following.lost
