"""Whether this service waits for memory, as the kernel counts it (PSI, `memory.pressure`).

A look a second at ten seconds' mean is enough: what is done about it, smaller batches, is undone
when it is over.
"""

import re
import time
from collections.abc import Callable
from pathlib import Path

from certeusd.channel import Squeeze
from certeusd.supervisor.state import Reasons

ENTERED_PERCENT = 5.0
LEFT_PERCENT = 1.0
"""Of the time in which somebody waited; two bounds, so that it does not flap."""

MEMORY_PRESSURE = "memory-pressure"

_SOME = re.compile(r"^some avg10=(\d+\.\d+)", re.MULTILINE)


class Pressure:
    """Looks at one file; a host without it has no pressure."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self.percent = 0.0
        self.high = False

    def look(self) -> bool:
        """Look again; returns whether `high` has changed."""
        self.percent = self._read()
        before = self.high
        self.high = self.percent >= (LEFT_PERCENT if before else ENTERED_PERCENT)
        return self.high != before

    def _read(self) -> float:
        if self._file is None:
            return 0.0
        try:
            found = _SOME.search(self._file.read_text())
        except OSError:
            return 0.0
        return float(found[1]) if found else 0.0

    def act(self, tell_flusher: Callable[[Squeeze], object], reasons: Reasons) -> None:
        """Look, and have batches made smaller while this service waits for memory."""
        changed = self.look()
        if changed or self.high:  # Each second: a new flusher must learn of it, too.
            tell_flusher(Squeeze(self.high))
        if self.high:
            reasons.add(
                "supervisor", MEMORY_PRESSURE,
                f"{self.percent:.0f} % of the last ten seconds somebody waited for"
                " memory; batches are smaller",
                "raise MemoryHigh= and MemoryMax= of the unit, or lower limits.ring_bytes_total_max"
                " and dedup.keys", time.time(),
            )  # fmt: skip
        else:
            reasons.remove("supervisor", MEMORY_PRESSURE)
