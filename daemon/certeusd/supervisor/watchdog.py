"""systemd's watchdog (`WatchdogSec=`), fed by progress and never by a bare timer."""

from collections.abc import Iterable

from certeusd import systemd
from certeusd.logs import Logger


class Watchdog:
    """Says that the service lives, as long as every child does."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._hung: list[str] = []

    def feed(self, hung: Iterable[str]) -> None:
        """Feed it, unless one of the children gives no sign of life; a call a tick."""
        before, self._hung = self._hung, sorted(hung)
        if not self._hung:
            systemd.notify("WATCHDOG=1")
        elif self._hung != before:
            self._logger.error(
                "watchdog_not_fed", children=self._hung,
                next="systemd starts the service again, unless they go on before WatchdogSec= ends",
            )  # fmt: skip

    @property
    def complaint(self) -> str:
        """Why it is not fed; empty while it is."""
        names = ", ".join(self._hung)
        return f"no sign of life of {names}: the watchdog is not fed" if names else ""
