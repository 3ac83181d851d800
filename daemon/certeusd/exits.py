"""Exit codes of `certeus`, `certeusd` and its children (sysexits.h where it has one)."""

from enum import IntEnum


class Exit(IntEnum):
    """What a process of certeus tells its parent."""

    OK = 0
    """It is done; `status` exits so whenever it got an answer."""
    FAILED = 1
    """It could not be done, or what was looked for is there: damage, a gap, a difference."""
    USAGE = 2
    """Wrong usage: an option or an argument."""
    UNREACHABLE = 69
    """The daemon does not answer."""
    BUG = 70
    """A mistake of certeus itself."""
    LOG_FAILED = 74
    """A write or sync of the log failed: a restart is the only retry."""
    TRY_AGAIN = 75
    """Not now: in use by another, timed out, or not confirmed (no `--yes`, no terminal).
    Try again."""
    NOT_ALLOWED = 77
    """This user may not."""
    CONFIGURATION = 78
    """The configuration cannot be used."""


class ExitError(Exception):
    """Ends the process with `code`, and one line that says what cannot be done and what to do."""

    def __init__(self, code: Exit, message: str) -> None:
        super().__init__(message)
        self.code = code
