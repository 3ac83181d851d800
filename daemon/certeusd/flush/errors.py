"""What an error of PostgreSQL, of asyncpg or of the network means for the flusher."""

import contextlib
import enum
import ssl
from collections.abc import Generator, Mapping

import asyncpg

from certeusd.flush.breaker import Cause


class Meaning(enum.StrEnum):
    """What to do about an error."""

    ROW = "row"
    """A row cannot be stored as it is: find it, and keep it as a dead letter."""
    AWAY = "away"
    """The server is gone, going, or busy: connect again, soon."""
    REFUSES = "refuses"
    """Configuration, schema or grants are not what they must be: somebody has to act."""
    BROKEN = "broken"
    """The server says that it is damaged: somebody has to look, before more is written to it."""


CLASSES: Mapping[str, Meaning] = {
    "00": Meaning.REFUSES,  # success: no error ever has it
    "01": Meaning.REFUSES,  # warning: neither
    "02": Meaning.REFUSES,  # no data: neither
    "03": Meaning.REFUSES,  # statement not yet complete
    "08": Meaning.AWAY,  # connection
    "09": Meaning.ROW,  # triggered action
    "0A": Meaning.REFUSES,  # feature not supported
    "0B": Meaning.REFUSES,  # invalid transaction initiation
    "0F": Meaning.REFUSES,  # locator
    "0L": Meaning.REFUSES,  # invalid grantor
    "0P": Meaning.REFUSES,  # invalid role specification
    "0Z": Meaning.REFUSES,  # diagnostics
    "10": Meaning.ROW,  # XQuery, on a row's data
    "20": Meaning.ROW,  # case not found, in a trigger
    "21": Meaning.ROW,  # cardinality violation
    "22": Meaning.ROW,  # data
    "23": Meaning.ROW,  # integrity constraint violation
    "24": Meaning.REFUSES,  # invalid cursor state
    "25": Meaning.AWAY,  # transaction state: a read-only standby, or a session to be made anew
    "26": Meaning.REFUSES,  # invalid statement name: a pooler between us
    "27": Meaning.ROW,  # triggered data change
    "28": Meaning.REFUSES,  # authorization
    "2B": Meaning.REFUSES,  # dependent privileges
    "2D": Meaning.REFUSES,  # invalid transaction termination
    "2F": Meaning.REFUSES,  # SQL routine
    "34": Meaning.REFUSES,  # invalid cursor name
    "38": Meaning.ROW,  # external routine, in a trigger
    "39": Meaning.ROW,  # its invocation
    "3B": Meaning.REFUSES,  # savepoint
    "3D": Meaning.REFUSES,  # no such database
    "3F": Meaning.REFUSES,  # no such schema
    "40": Meaning.AWAY,  # rollback: deadlock, serialization
    "42": Meaning.REFUSES,  # syntax, names, grants
    "44": Meaning.ROW,  # check option
    "53": Meaning.AWAY,  # resources: disk, memory, connections
    "54": Meaning.ROW,  # limits that a row exceeds: an index row, the depth of a document
    "55": Meaning.AWAY,  # not in prerequisite state: locks
    "57": Meaning.AWAY,  # operator intervention
    "58": Meaning.AWAY,  # system: input and output
    "72": Meaning.AWAY,  # snapshot too old
    "F0": Meaning.REFUSES,  # configuration file
    "HV": Meaning.REFUSES,  # foreign data
    "P0": Meaning.ROW,  # raised by a trigger
    "XX": Meaning.BROKEN,  # internal: damage
}
"""What each class of SQLSTATE means; one that is not here refuses, so that somebody looks."""

STATES: Mapping[str, Meaning] = {
    "25001": Meaning.REFUSES,  # a statement that cannot run in a transaction
    "54011": Meaning.REFUSES,  # too many columns: the table's fault, not a row's
}
"""Single states that mean something else than their class."""

WITHOUT_STATE: Mapping[type[Exception], Meaning] = {
    # A subclass stands before its base.
    asyncpg.ClientConfigurationError: Meaning.REFUSES,
    asyncpg.UnsupportedClientFeatureError: Meaning.REFUSES,
    asyncpg.UnsupportedServerFeatureError: Meaning.REFUSES,
    asyncpg.InterfaceError: Meaning.AWAY,
    # Of several hosts none is the primary at the moment; or what came was no protocol: a cut.
    asyncpg.InternalClientError: Meaning.AWAY,
    asyncpg.PostgresError: Meaning.AWAY,
    ssl.SSLCertVerificationError: Meaning.REFUSES,
    OSError: Meaning.AWAY,
    EOFError: Meaning.AWAY,
    BufferError: Meaning.AWAY,
    ValueError: Meaning.REFUSES,
}
"""What errors mean that carry no SQLSTATE; the first that fits."""


class FlushError(Exception):
    """Something that the flusher itself found to be wrong with the server."""

    meaning = Meaning.REFUSES
    cause: Cause | None = None
    """Why the breaker opens, if it is not for the meaning."""
    code: str | None = None
    """The reason's code, if it is not that of the meaning."""

    def __init__(self, what: str, next_step: str) -> None:
        super().__init__(what)
        self.what = what
        self.next_step = next_step


class StalledError(FlushError):
    """The server has not moved for so long that the connection was given up."""

    meaning = Meaning.AWAY


class LogUnreadableError(FlushError):
    """The log itself cannot be read: PostgreSQL has nothing to do with it."""

    cause: Cause | None = Cause.LOG_UNREADABLE
    code: str | None = "log-unreadable"


@contextlib.contextmanager
def reading_the_log() -> Generator[None]:
    """Tell what the log's reader raises from what PostgreSQL raises."""
    try:
        yield
    except (OSError, ValueError) as error:
        next_step = "Run `certeus log check`; new events stay durable meanwhile."
        raise LogUnreadableError(str(error), next_step) from error


class LockedError(FlushError):
    """A session of somebody else holds a lock that we need. Nothing was stored."""

    meaning = Meaning.AWAY
    code: str | None = "postgres-locked"


class DeadLetterRateError(FlushError):
    """So many rows are refused that it is not the rows' fault. Nothing was stored."""

    cause: Cause | None = Cause.DEAD_LETTER_RATE
    code: str | None = "dead-letter-rate"


class LeftOutError(FlushError):
    """The server said yes, and stored fewer rows than were sent. The transaction must not commit.

    Never in silence: what a trigger leaves out is a row that the server refuses.
    """

    meaning = Meaning.ROW
    sqlstate = "27000"
    """Of SQL: a triggered data change violation."""

    @classmethod
    def check(cls, tag: str, rows: int) -> None:
        """Compare a command's tag with what was sent."""
        stored = int(tag.rsplit(" ", 1)[1])
        if stored != rows:
            raise cls(
                f"the server took {rows} rows and stored {stored}: a trigger left them out",
                "Correct the triggers on the tables of schema certeus: no event may be dropped."
                " certeus tries again by itself.",
            )


class LeafDetachedError(FlushError):
    """Rows went into a table that is not, or not any more, part of `events`. Nothing was stored."""

    cause: Cause | None = Cause.LEAF_MISSING

    def __init__(self, leaf: str) -> None:
        super().__init__(
            f"certeus.{leaf} is not attached to certeus.events",
            "Attach it again, or rename it: certeus then makes a new one by itself.",
        )


class PositionLostError(Exception):
    """The compare-and-set met no row: somebody else moved the position. Nothing was stored."""


class BlockedError(Exception):
    """Of two transactions on their way the earlier one waits for a lock of the later one."""


def sqlstate_of(error: BaseException) -> str:
    """Return the SQLSTATE, or an empty string if the server did not send this error."""
    state = getattr(error, "sqlstate", None)
    return state if isinstance(state, str) else ""


def in_words(error: Exception) -> str:
    """Say an error to a human: what kept us from the server, else the error with its kind."""
    if isinstance(error, ConnectionError | FileNotFoundError) and error.strerror:
        return f"cannot reach the server: {error.strerror}"
    return f"{type(error).__name__}: {error}"


def meaning_of(error: BaseException) -> Meaning:
    """Classify an error: exactly one meaning each, by its SQLSTATE if it has one."""
    if isinstance(error, FlushError):
        return error.meaning
    state = sqlstate_of(error)
    if state:
        return STATES.get(state) or CLASSES.get(state[:2], Meaning.REFUSES)
    for kind, meaning in WITHOUT_STATE.items():
        if isinstance(error, kind):
            return meaning
    return Meaning.REFUSES


def is_for_a_row(error: BaseException) -> bool:
    """Whether an error of a transaction's COPY may be a single row's, so that rows are tried alone.

    C code that a row is given to (a type's, an extension's) mostly raises XX000, as a server that
    is ill may: then far more rows are refused than a rate allows.
    """
    return meaning_of(error) is Meaning.ROW or sqlstate_of(error) == "XX000"


DESTINATION_ERRORS: tuple[type[Exception], ...] = (FlushError, *WITHOUT_STATE)
"""All that a destination can raise; whatever else is raised is our own mistake."""
