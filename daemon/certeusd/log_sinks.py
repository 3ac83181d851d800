"""Where a line goes: to the journal, field by field, or to a stream, as text. No sink ever waits.

A dead journal, a full pipe or a stopped terminal must not stop a process: what does not get through
at once is dropped and counted, and the next line that does says how many were (`lines_dropped`).
"""

import functools
import json
import os
import re
import select
import socket
import stat
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Protocol

from certeusd import log_journal
from certeusd.log_journal import Journal
from certeusd.plain_structlog import EventDict

IDENTIFIER = "certeusd"
MESSAGE_NAMESPACE = uuid.UUID("6f1c52ae-9d0b-4c1e-8a57-3b7a4ce1f0d2")
"""`MESSAGE_ID` is the version 5 UUID of the event's name in this namespace, so it never changes."""
PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}

_TAKEN = frozenset((
    "MESSAGE", "MESSAGE_ID", "PRIORITY", "CODE_FILE", "CODE_LINE", "CODE_FUNC", "ERRNO",
    "INVOCATION_ID", "USER_INVOCATION_ID", "DOCUMENTATION", "TID", "UNIT", "USER_UNIT",
))  # fmt: skip
_TAKEN_BEGINNINGS = ("SYSLOG_", "COREDUMP_", "OBJECT_", "CERTEUS_")
_OWN_KEYS = ("event", "level")
_WHOLE_KEYS = ("timestamp", "level")
_JSON = json.JSONEncoder(ensure_ascii=False, default=repr)
_BARE = re.compile(r"[^\s\"=\\\x00-\x1f\x7f]+")
SHARES = (1024, 256, 64, 16)
"""Characters that a value keeps, tried in turn until a line fits into a pipe."""


class Outlet(Protocol):
    """One way out."""

    def write(self, event: EventDict) -> bool:
        """Write one line if that takes no waiting; whether all of it is written."""
        ...


class Sink:
    """What structlog calls a logger: takes event dictionaries, and counts those that were dropped.

    Args:
        on_dropped: called once a dropped line.
    """

    def __init__(self, outlet: Outlet, on_dropped: Callable[[], None]) -> None:
        self._outlet = outlet
        self._on_dropped = on_dropped
        self._untold = 0
        self.dropped_total = 0

    def msg(self, event: EventDict) -> None:
        """Write one line, or count it as dropped."""
        if self._untold:
            event["lines_dropped"] = self._untold
        try:
            written = self._outlet.write(event)
        except Exception:  # Whatever a line holds, who logs it goes on.
            written = False
        if written:
            self._untold = 0
        else:
            self._untold += 1
            self.dropped_total += 1
            self._on_dropped()

    log = debug = info = warn = warning = error = critical = exception = fatal = msg


class Stream:
    """Writes lines to a descriptor; `render` gives the text of one, and may change what it gets."""

    def __init__(self, descriptor: int, render: Callable[[EventDict], str]) -> None:
        self._way = _way_without_waiting(descriptor)
        self._render = render

    def write(self, event: EventDict) -> bool:
        """Write one line if that takes no waiting; whether all of it is written."""
        try:
            line = self._line(event)
            return self._way.write(line) == len(line)
        except OSError:
            return False

    def close(self) -> None:
        """Close what was opened here; the descriptor itself was lent."""
        self._way.close()

    def _line(self, event: EventDict) -> bytes:
        line = self._bytes(event)
        if self._way.line_bytes_max is None:
            return line
        for share in SHARES:
            if len(line) <= self._way.line_bytes_max:
                return line
            line = self._bytes(
                {
                    key: value if key in _WHOLE_KEYS else _shortened(value, share)
                    for key, value in event.items()
                }
            )
        if len(line) <= self._way.line_bytes_max:
            return line
        return self._bytes({
            **{key: event[key] for key in _WHOLE_KEYS if key in event},
            "event": _shortened(event.get("event"), 64), "fields_dropped": len(event),
        })  # fmt: skip

    def _bytes(self, event: EventDict) -> bytes:
        return self._render(dict(event)).encode(errors="backslashreplace") + b"\n"


class ToJournal:
    """Sends records to the journal; where that cannot be reached, `fallback` gets them."""

    def __init__(self, journal: Journal, fallback: Outlet) -> None:
        self._journal = journal
        self._fallback = fallback

    def write(self, event: EventDict) -> bool:
        """Send one record if the journal has room; whether it is sent."""
        try:
            return self._journal.send_nowait(log_journal.encode(fields(event)))
        except OSError:
            return self._fallback.write(event)


def fields(event: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield the journal's fields of an event: first its own ones, then each key by its name."""
    name = str(event.get("event"))
    message = sentence({key: event[key] for key in event if key != "exception"})
    if "exception" in event:
        message = f"{message}\n{event['exception']}"
    yield "MESSAGE", message
    yield "PRIORITY", str(priority(event))
    yield "SYSLOG_IDENTIFIER", IDENTIFIER
    yield "MESSAGE_ID", message_id(name)
    yield "CERTEUS_EVENT", name
    for key, value in event.items():
        if key not in _OWN_KEYS:
            yield _own_name(key), _text(value)


def sentence(event: Mapping[str, object]) -> str:
    """Return the event's name and its fields as one line: `child_spawned child=log pid=17`."""
    words = [f"{key}={_shown(value)}" for key, value in event.items() if key not in _OWN_KEYS]
    return " ".join([str(event.get("event")), *words]).replace("\n", "\\n")


def prefixed(event: Mapping[str, object]) -> str:
    """Return a line as the journal reads it from standard error: `<3>log_failed ...`."""
    return f"<{priority(event)}>{sentence(event)}"


def as_json(event: Mapping[str, object]) -> str:
    """Return the event as one line of JSON, whatever it holds."""
    try:
        return _JSON.encode(event)
    except (TypeError, ValueError, RecursionError):  # Odd keys, or a value that holds itself.
        plain = {
            key: value if isinstance(value, str | int) else _text(value)
            for key, value in event.items()
        }
        return _JSON.encode(plain)


def priority(event: Mapping[str, object]) -> int:
    """Return syslog's number of the event's level."""
    return PRIORITIES.get(str(event.get("level")), PRIORITIES["info"])


@functools.lru_cache(maxsize=1024)
def message_id(event: str) -> str:
    """Return the 32 digits by which the journal's catalog knows this event."""
    name = event.encode(errors="backslashreplace").decode()
    return uuid.uuid5(MESSAGE_NAMESPACE, name).hex


@functools.lru_cache(maxsize=1024)
def _own_name(key: str) -> str:
    name = log_journal.field_name(key)
    if name in _TAKEN or name.startswith(_TAKEN_BEGINNINGS):
        return f"CERTEUS_{name}"[: log_journal.NAME_LENGTH_MAX]
    return name


def _shown(value: object) -> str:
    text = _text(value)
    is_bare = not isinstance(value, str) or _BARE.fullmatch(value)
    return text if is_bare else _JSON.encode(text)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return _JSON.encode(value)
    except (TypeError, ValueError, RecursionError):
        return repr(value)


def _shortened(value: object, characters: int) -> object:
    text = _text(value)
    half = characters // 2
    return value if len(text) <= characters else f"{text[:half]} ... {text[-half:]}"


class _Way(NamedTuple):
    """Writes what the descriptor takes at once; longer lines would come in parts or wait."""

    write: Callable[[bytes], int]
    line_bytes_max: int | None
    close: Callable[[], None]


def _way_without_waiting(descriptor: int) -> _Way:
    """Return how to write there; who else writes there is bound by nothing.

    `O_NONBLOCK` belongs to what was opened, which is shared with a shell, or with PostgreSQL; so
    pipes and terminals are opened once more. A pipe of another user cannot be: asking before each
    write is nearly as good, but for who writes at the same moment.
    """
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISREG(mode):
            return _Way(functools.partial(os.write, descriptor), None, _keep)
        if stat.S_ISSOCK(mode):
            end = socket.socket(fileno=os.dup(descriptor))
            return _Way(_sending(end), select.PIPE_BUF, end.close)
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        own = os.open(f"/proc/self/fd/{descriptor}", flags)
        line_bytes_max = select.PIPE_BUF if stat.S_ISFIFO(mode) else None
        return _Way(
            functools.partial(os.write, own), line_bytes_max, functools.partial(os.close, own)
        )
    except OSError:
        return _Way(_asking_first(descriptor), select.PIPE_BUF, _keep)


def _keep() -> None:
    """The descriptor was lent."""


def _sending(end: socket.socket) -> Callable[[bytes], int]:
    def send(line: bytes) -> int:
        return end.send(line, socket.MSG_DONTWAIT)

    return send


def _asking_first(descriptor: int) -> Callable[[bytes], int]:
    def write(line: bytes) -> int:
        poll = select.poll()  # Not shared: two threads may not poll one at once.
        poll.register(descriptor, select.POLLOUT)
        # Where a pipe is writable, PIPE_BUF bytes fit.
        return os.write(descriptor, line) if poll.poll(0) else 0

    return write
