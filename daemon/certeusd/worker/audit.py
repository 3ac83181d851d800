"""The audit line of what a client was refused or ended for: by reason, ever more rarely."""

from collections import Counter

from certeusd.logs import Logger


class Audit:
    """Logs the 1st, 2nd, 4th, 8th... occurrence of each reason, with the count.

    A client that tries again for ever thus costs a line each doubling, and hides no other reason.
    """

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._counts = Counter[tuple[str, str]]()

    def hello_refused(self, reason: str, *, uid: int, pid: int, tenant: str, source: str) -> None:
        """Note that a client got no session."""
        self._line("hello_refused", reason, uid=uid, pid=pid, tenant=tenant, source=source)

    def session_ended(self, reason: str, *, uid: int, pid: int, slot: int) -> None:
        """Note that a session was ended from this side."""
        self._line("session_ended", reason, uid=uid, pid=pid, slot=slot)

    def accept_failed(self, reason: str) -> None:
        """Note that a client could not even be taken in; the worker tries again soon."""
        self._line("accept_failed", reason)

    def _line(self, event: str, reason: str, **fields: object) -> None:
        self._counts[event, reason] += 1
        count = self._counts[event, reason]
        if count.bit_count() == 1:
            self._logger.warning(event, reason=reason, count=count, **fields)
