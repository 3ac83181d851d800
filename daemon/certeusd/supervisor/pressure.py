"""Whether this service waits for memory, as the kernel counts it (PSI, `memory.pressure`).

A look a second at ten seconds' mean is enough: what is done about it, smaller batches, is undone
when it is over.
"""

import re
from pathlib import Path

from certeusd.channel import Squeeze
from certeusd.supervisor.orders import Orders
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


def look(pressure: Pressure, orders: Orders, reasons: Reasons, now: float) -> None:
    """Have batches made smaller while this service waits for memory; `now`: since 1970."""
    changed = pressure.look()
    if changed or pressure.high:  # Each second: a new flusher must learn of it, too.
        orders.tell_flusher(Squeeze(pressure.high))
    if pressure.high:
        reasons.add(
            "supervisor", MEMORY_PRESSURE,
            f"{pressure.percent:.0f} % of the last ten seconds somebody waited for"
            " memory; batches are smaller",
            "raise MemoryHigh= and MemoryMax= of the unit, or lower limits.ring_bytes_total_max"
            " and dedup.keys", now,
        )  # fmt: skip
    else:
        reasons.remove("supervisor", MEMORY_PRESSURE)
