"""How many rows a batch may have: fewer after one that the server could not take in time.

A batch that is given up is rolled back, so its rows come again: at the same size, for ever. The
server is slow for a trigger, or for a time-out that its role was given; half of the rows are tried
next, down to what a probe has, and an eighth more behind each batch that went. While memory is
short a batch has an eighth of its bytes.
"""

from certeusd.flush.errors import StalledError, sqlstate_of
from certeusd.flush.settings import PROBE_ROWS_MAX, Settings

_TIMEOUTS = ("57014", "25P04")
"""A statement or a transaction took longer than the server lets it."""

SQUEEZED = 8
"""So many times fewer bytes a batch has while memory is short."""
SQUEEZED_BYTES_MIN = 64 * 1024


class Pace:
    """The size of the next batch. One task uses it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._rows_max = settings.postgres.batch_rows_max
        self.squeezed = False
        """Whether memory is short."""

    def limits(self, probing: bool) -> tuple[int, int]:
        """Return rows and bytes of the next batch at most."""
        rows, length = self._settings.batch_limits(probing)
        if self.squeezed:
            length = min(length, max(length // SQUEEZED, SQUEEZED_BYTES_MIN))
        return min(rows, self._rows_max), length

    def done(self) -> None:
        """A batch is committed."""
        more = self._rows_max + self._rows_max // 8 + 1
        self._rows_max = min(more, self._settings.postgres.batch_rows_max)

    def failed(self, error: Exception) -> None:
        """A batch came to nothing, for whatever reason."""
        if isinstance(error, StalledError) or sqlstate_of(error) in _TIMEOUTS:
            least = min(PROBE_ROWS_MAX, self._settings.postgres.batch_rows_max)
            self._rows_max = max(self._rows_max // 2, least)
