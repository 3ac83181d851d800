"""What an error of PostgreSQL, of asyncpg or of the network means for the flusher."""

import enum

import asyncpg


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


_ROW_CLASSES = ("21", "22", "23")
# Limits of the server that a row exceeds by itself: an index row, the depth of a document.
_ROW_STATES = ("54000", "54001", "54023")
_AWAY_CLASSES = ("08", "40", "53", "55", "57", "58")
_AWAY_STATES = ("25006", "25P02", "25P03", "25P04")


class FlushError(Exception):
    """Something that the flusher itself found to be wrong with the server."""

    meaning = Meaning.REFUSES
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

    code: str | None = "log-unreadable"


class PositionLostError(Exception):
    """The compare-and-set met no row: somebody else moved the position. Nothing was stored."""


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
    """Classify an error by its SQLSTATE, or as lost connection if it has none."""
    if isinstance(error, FlushError):
        return error.meaning
    state = sqlstate_of(error)
    if state.startswith(_ROW_CLASSES) or state in _ROW_STATES:
        return Meaning.ROW
    if state.startswith(_AWAY_CLASSES) or state in _AWAY_STATES:
        return Meaning.AWAY
    if state.startswith("XX"):
        return Meaning.BROKEN
    if state:
        return Meaning.REFUSES
    if isinstance(error, (asyncpg.InterfaceError, OSError, TimeoutError, EOFError)):
        # A DSN that cannot be understood is configuration; all else is the connection's end.
        is_dsn = isinstance(error, asyncpg.ClientConfigurationError)
        return Meaning.REFUSES if is_dsn else Meaning.AWAY
    return Meaning.REFUSES
