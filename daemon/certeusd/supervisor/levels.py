"""From which level on each process logs: as configured, or as an operator asked, for a while."""

import asyncio
from collections.abc import Callable

from certeusd import logs
from certeusd.channel import Role
from certeusd.logs import MODULES, Module


class Levels:
    """What was asked for lasts until its time is over, or the daemon starts again."""

    def __init__(self, configured: str, send: Callable[[Role, str], None]) -> None:
        self._configured = configured
        self._send = send
        self._asked: dict[Module, str] = {}
        self._ends: dict[Module, asyncio.TimerHandle] = {}

    def of(self, module: Module) -> str:
        """Return the level that a process of this module has now."""
        return self._asked.get(module, self._configured)

    def configure(self, level: str) -> None:
        """Take another configuration; what was asked for stays."""
        if level == self._configured:
            return
        self._configured = level
        for module in MODULES:
            self._tell(module)

    def ask(self, module: Module, level: str, for_s: float | None) -> None:
        """Log from `level` on, for so many seconds; none: until the next start."""
        self._forget(module)
        self._asked[module] = level
        if for_s is not None:
            loop = asyncio.get_running_loop()
            self._ends[module] = loop.call_later(for_s, self._end, module)
        self._tell(module)

    def _end(self, module: Module) -> None:
        self._forget(module)
        self._tell(module)

    def _forget(self, module: Module) -> None:
        self._asked.pop(module, None)
        timer = self._ends.pop(module, None)
        if timer is not None:
            timer.cancel()

    def _tell(self, module: Module) -> None:
        if module == "supervisor":
            logs.set_level(self.of(module))
        else:
            self._send(module, self.of(module))
