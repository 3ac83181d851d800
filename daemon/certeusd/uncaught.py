"""What nobody caught reaches the log as one record with its traceback, and so do libraries' words.

Without this Python would write a traceback to standard error, where the journal makes a record of
each of its lines, all of them with the priority of an information.
"""

import logging
import sys
import threading
from types import TracebackType

from certeusd.logs import LEVELS, Logger

LIBRARY_LEVEL = logging.WARNING


def log_uncaught(logger: Logger) -> None:
    """Log from now on exceptions of any thread and of finalisers, warnings, and libraries' logs."""

    def failed(
        kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, traceback)
            return
        logger.critical("process_failed", exc_info=(kind, error, traceback))

    def thread_failed(args: threading.ExceptHookArgs) -> None:
        name = "" if args.thread is None else args.thread.name
        if args.exc_value is not None:
            logger.error("thread_failed", thread=name, exc_info=args.exc_value)

    def not_raised(args: "sys.UnraisableHookArgs") -> None:
        logger.error(
            "exception_not_raised", what=args.err_msg or "", object=repr(args.object),
            exc_info=args.exc_value or False,
        )  # fmt: skip

    sys.excepthook = failed
    threading.excepthook = thread_failed
    sys.unraisablehook = not_raised
    logging.captureWarnings(True)
    logging.basicConfig(handlers=[LibraryHandler(logger)], level=LIBRARY_LEVEL, force=True)


class LibraryHandler(logging.Handler):
    """Gives what libraries log (asyncio: exceptions of tasks) to our logger."""

    def __init__(self, logger: Logger) -> None:
        super().__init__()
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """Log one record of the standard library's logging."""
        try:
            text = record.getMessage()
        except (TypeError, ValueError):  # The library's own mistake.
            text = str(record.msg)
        reached = max(record.levelno, logging.DEBUG)
        level = max(number for number in LEVELS.values() if number <= reached)
        self._logger.log(
            level, "library_logged", library=record.name, message=text,
            exc_info=record.exc_info or False,
        )  # fmt: skip
