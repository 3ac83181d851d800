"""The short slice of worker and log writer (`daemon/src/timeslice.rs`), asked for at start."""

from certeusd import _native
from certeusd.logs import Logger


def shorten(log: Logger) -> None:
    """Shorten this thread's slice, and that of threads it starts; without it, all is the same.

    A kernel before 6.12 takes it without effect; that it is forbidden is told.
    """
    try:
        _native.shorten_slice()
    except OSError as error:
        log.info("slice_not_shortened", cause=str(error), next="allow sched_setattr")
