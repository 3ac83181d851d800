"""Logs of the daemon: structlog to standard error, one line an edge or a batch, never one an event.

On a terminal they are coloured; to the journal they carry `<N>` priorities, so that
`journalctl -p err` works; elsewhere they are JSON. Writing never waits: a dead journal or a full
pipe must not stop a process, so a line that does not fit is dropped, and the next one that does
says how many were.
"""

import logging
import os
import select
import sys
from collections.abc import Callable
from typing import Literal, get_args

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from certeusd import systemd

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}

Logger = FilteringBoundLogger

Module = Literal["supervisor", "worker", "log", "flush"]
"""What may have a level of its own: all processes of a role."""
MODULES: tuple[Module, ...] = get_args(Module)


class Sink:
    """Writes lines to a descriptor, as far as that does not wait."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self.dropped = 0

    def msg(self, message: str) -> None:
        """Write one line, or count it as dropped."""
        try:
            # A pipe is writable when PIPE_BUF bytes fit, so a longer line might wait.
            ready = bool(self._poll.poll(0))
            line = message.encode(errors="backslashreplace")[: select.PIPE_BUF - 64]
            if ready and self.dropped:
                line += f" lines_dropped={self.dropped}".encode()
            if ready:
                os.write(self._descriptor, line + b"\n")
        except OSError:
            ready = False
        self.dropped = 0 if ready else self.dropped + 1

    log = debug = info = warn = warning = error = critical = exception = fatal = msg


def _journal_prefix(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    event["_priority"] = _PRIORITY.get(str(event.get("level", "info")), 6)
    event.pop("timestamp", None)
    return event


def _renderers() -> list[Processor]:
    if systemd.stderr_is_journal():
        logfmt = structlog.processors.LogfmtRenderer(key_order=["event"], bool_as_flag=False)

        def render(logger: WrappedLogger, name: str, event: EventDict) -> str:
            priority = event.pop("_priority")
            return f"<{priority}>{logfmt(logger, name, event)}"

        return [_journal_prefix, structlog.processors.format_exc_info, render]
    if sys.stderr.isatty():
        return [structlog.dev.ConsoleRenderer(colors="NO_COLOR" not in os.environ)]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]


def _sink_factory(sink: Sink) -> Callable[..., Sink]:
    return lambda *_: sink


def configure(role: str, index: int = 0, level: str = "info") -> Logger:
    """Set up logging of this process, once, and return its logger with `role` (and index) bound."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *_renderers(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=_sink_factory(Sink(2)),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(role=role)
    if role == "worker":
        structlog.contextvars.bind_contextvars(worker=index)
    return get_logger()


def set_level(level: str) -> None:
    """Log from this level on; loggers that are there follow."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]))


def audit_logger() -> Logger:
    """Return a logger that no level silences: who raises it must not go unseen."""
    everything = structlog.make_filtering_bound_logger(logging.NOTSET)
    logger: Logger = structlog.wrap_logger(None, wrapper_class=everything)
    return logger


def get_logger() -> Logger:
    """Return the logger of this process; `configure` comes first."""
    logger: Logger = structlog.get_logger()
    return logger
