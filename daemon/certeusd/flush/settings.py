"""What the flusher is given at its start, and how long it waits for what."""

from pathlib import Path
from typing import NamedTuple

from certeusd.config import PostgresSection
from certeusd.flush.breaker import Cause, Pause
from certeusd.flush.connection import LOCK_TIMEOUT_S, STALL_TIMEOUT_S
from certeusd.flush.dead_letters import Rate

RECHECK_INTERVAL_S = 30.0
"""A position that is not ours, and a gap, are looked at again so often."""
HOUSEKEEPING_INTERVAL_S = 1.0
LOOK_INTERVAL_S = 30.0
"""PostgreSQL's own view, position and dead letters, is looked at so often while nothing comes."""
AWAY_PAUSE = Pause(0.05, 5.0)
REFUSED_PAUSE = Pause(5.0, 60.0)
BEHIND_ROWS_MAX = 4096
PROBE_ROWS_MAX = 500
PROBE_BYTES_MAX = 256 * 1024


class Settings(NamedTuple):
    """Everything about one destination."""

    dsn: str
    """May carry a password: never logged."""
    postgres: PostgresSection
    log_dir: Path
    followers_dir: Path
    shared_reserve_bytes: int = 0
    """What the log leaves of a disk that it shares with the server; 0: it shares none."""
    recheck_s: float = RECHECK_INTERVAL_S
    housekeeping_s: float = HOUSEKEEPING_INTERVAL_S
    look_s: float = LOOK_INTERVAL_S
    stall_timeout_s: float = STALL_TIMEOUT_S
    lock_timeout_s: float = LOCK_TIMEOUT_S
    away_pause: Pause = AWAY_PAUSE
    refused_pause: Pause = REFUSED_PAUSE

    def pauses(self) -> dict[Cause, Pause]:
        """Return how long each cause keeps the breaker open; `broken` until an admin speaks."""
        away, refused = self.away_pause, self.refused_pause
        return {
            Cause.AWAY: away,
            Cause.LEAF_MISSING: away,
            Cause.POSITION_LOST: away,
            Cause.REFUSES: refused,
            Cause.DEAD_LETTER_RATE: refused,
            Cause.LOG_UNREADABLE: refused,
        }

    def batch_limits(self, probing: bool) -> tuple[int, int]:
        """Return rows and bytes of a batch at most: few while it is not known whether they go."""
        rows, length = self.postgres.batch_rows_max, self.postgres.batch_bytes_max
        if probing:
            return min(rows, PROBE_ROWS_MAX), min(length, PROBE_BYTES_MAX)
        return rows, length

    def behind_rows(self) -> int:
        """So many rows behind, the next batch is delivered without waiting for a tick."""
        return min(BEHIND_ROWS_MAX, self.postgres.batch_rows_max)

    def dead_letter_rate(self, accepted_seq: int) -> Rate:
        """Return how many rows may be refused behind what an admin has accepted."""
        postgres = self.postgres
        letters_max = int(
            postgres.dead_letters_window_rows * postgres.dead_letters_percent_max / 100
        )
        return Rate(letters_max, postgres.dead_letters_window_rows, accepted_seq)
