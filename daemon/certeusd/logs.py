"""Logs of the daemon: structlog, one line an edge or a batch, never one an event.

Under systemd the journal gets each field as a field of its own, with the level as its priority
(`journalctl -p err`, `journalctl WORKER=3`); where its socket is not to be had, `<N>` lines. On a
terminal lines are for reading; elsewhere they are JSON. Writing never waits: `log_sinks.py`.
"""

import logging
import os
from collections.abc import Callable
from typing import Literal, get_args

from certeusd import systemd
from certeusd.log_journal import Journal
from certeusd.log_sinks import Outlet, Sink, Stream, ToJournal, as_json, prefixed
from certeusd.plain_structlog import (
    EventDict,
    FilteringBoundLogger,
    Processor,
    WrappedLogger,
    structlog,
)

LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
STDERR = 2

Logger = FilteringBoundLogger

Module = Literal["supervisor", "worker", "log", "flush", "api", "syslog", "journal"]
"""What may have a level of its own: all processes of a role."""
MODULES: tuple[Module, ...] = get_args(Module)


def _ignore() -> None:
    """Nobody counts."""


def _outlet() -> tuple[Outlet, bool]:
    """Return the way out, and whether lines need a timestamp there: the journal has its own."""
    if systemd.stderr_is_journal():
        return ToJournal(Journal(systemd.JOURNAL_SOCKET), Stream(STDERR, prefixed)), False
    if not os.isatty(STDERR):
        return Stream(STDERR, as_json), True
    console = structlog.dev.ConsoleRenderer(
        colors=not os.environ.get("NO_COLOR"),
        exception_formatter=structlog.dev.plain_traceback,
    )
    return Stream(STDERR, lambda event: console(None, "", event)), True


def _binding(role: str, index: int) -> Processor:
    """Return what says of every line, of whichever thread, whose it is."""
    own: dict[str, object] = {"role": role, "worker": index} if role == "worker" else {"role": role}

    def bind(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        for key, value in own.items():
            event.setdefault(key, value)
        return event

    return bind


def _as_argument(_: WrappedLogger, __: str, event: EventDict) -> tuple[object, ...]:
    """Hand the sink the event itself: it knows best how to write it."""
    return (event,), {}


def configure(
    role: str, index: int = 0, level: str = "info", on_dropped: Callable[[], None] = _ignore
) -> Logger:
    """Set up logging of this process, once, and return its logger with `role` (and index) bound.

    `on_dropped` is called for each line that could not be written without waiting.
    """
    outlet, needs_timestamp = _outlet()
    sink = Sink(outlet, on_dropped)
    timestamp = [structlog.processors.TimeStamper(fmt="iso", utc=True)] if needs_timestamp else []
    structlog.configure(
        processors=[
            _binding(role, index),
            structlog.processors.add_log_level,
            *timestamp,
            structlog.processors.format_exc_info,
            _as_argument,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=lambda *_: sink,
        cache_logger_on_first_use=False,
    )
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


def lines_dropped() -> int:
    """Return how many lines this process could not write without waiting."""
    sink = structlog.get_config()["logger_factory"]()
    return sink.dropped_total if isinstance(sink, Sink) else 0
