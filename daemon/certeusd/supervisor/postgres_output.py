"""What the embedded PostgreSQL says, line by line, with the priority that its severity means here.

A statement that fails is its author's business, and what goes on by itself is a warning at most;
details belong to the line before them. A line of any length is taken: who waits for it to end, or
stops reading, stops the server.
"""

from collections.abc import Callable

from certeusd.logs import Logger

LINE_BYTES_MAX = 8192
"""What is behind is left out: a failed statement may have megabytes."""

_LEVELS = {
    **dict.fromkeys(("DEBUG1", "DEBUG2", "DEBUG3", "DEBUG4", "DEBUG5"), "debug"),
    **dict.fromkeys(("LOG", "INFO", "NOTICE"), "info"),
    **dict.fromkeys(("WARNING", "ERROR", "FATAL"), "warning"),
    "PANIC": "error",
}
_BELONGING = frozenset((
    "DETAIL", "HINT", "QUERY", "CONTEXT", "LOCATION", "BACKTRACE", "STATEMENT",
))  # fmt: skip


class Lines:
    """Makes lines of pieces, and gives each to `take`."""

    def __init__(self, take: Callable[[str], None]) -> None:
        self._take = take
        self._begun = b""

    def feed(self, data: bytes) -> None:
        """Take what was read; nothing: it was the end."""
        *ended, rest = data.split(b"\n") if data else (b"", b"")
        for piece in ended:
            self._keep(piece)
            line, self._begun = self._begun.decode(errors="replace").rstrip(), b""
            if line:
                self._take(line)
        self._keep(rest)

    def _keep(self, piece: bytes) -> None:
        self._begun = (self._begun + piece)[:LINE_BYTES_MAX]


class ServerLog:
    """Logs the server's lines."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._severity = ""
        self._level = "info"

    def take(self, line: str) -> None:
        """Log one line."""
        severity, _, text = line.partition(":  ")
        if severity in _LEVELS:
            self._level = _LEVELS[severity]
        elif line.startswith("\t"):
            severity, text = self._severity, line.strip()
        elif severity not in _BELONGING:
            # Not by PostgreSQL's own means: the loader's words, or a library's.
            severity, text, self._level = "", line, "warning"
        self._severity = severity
        getattr(self._logger, self._level)("postgres_logged", severity=severity, message=text)
