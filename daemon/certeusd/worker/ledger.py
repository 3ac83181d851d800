"""Sessions and ring bytes, by user and in all, against their limits. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from certeusd.config import LimitsSection
from certeusd.worker.handshake import Refusal

HEARTBEAT_MAX_S = 3.0
SHARE_SLACK = 8


@dataclass(frozen=True, slots=True)
class Caps:
    """What one worker may hold. `of` divides the host's limits among the workers."""

    sessions: int
    sessions_per_uid: int
    ring_bytes: int
    ring_bytes_per_uid: int

    @classmethod
    def of(cls, limits: LimitsSection, workers: int, index: int) -> "Caps":
        """Each worker has its part, so that the limits hold without asking others.

        The parts of all make the limit exactly, but no part is below one session and one ring of
        the largest size: a limit that is too small for all workers is passed by so much.
        """

        def part(limit: int) -> int:
            return limit // workers + (index < limit % workers)

        return cls(
            sessions=max(part(limits.sessions_max), 1),
            sessions_per_uid=max(part(limits.sessions_per_uid_max), 1),
            ring_bytes=max(part(limits.ring_bytes_total_max), limits.ring_bytes_max),
            ring_bytes_per_uid=max(part(limits.ring_bytes_per_uid_max), limits.ring_bytes_max),
        )


class Ledger:
    """What is held now."""

    def __init__(self, caps: Caps) -> None:
        self._caps = caps
        self._sessions = Counter[int]()
        self._ring_bytes = Counter[int]()

    @property
    def sessions(self) -> int:
        """Sessions of all users."""
        return self._sessions.total()

    def limit(self, caps: Caps) -> None:
        """Go by other limits from now on; what is held above them is `surplus`."""
        self._caps = caps

    def surplus(self, held: Iterable[tuple[int, int, int]]) -> list[int]:
        """Return which sessions are above the limits: the last ones of `held`.

        Args:
            held: number, user and ring bytes of each, those that stay before others first.
        """
        kept = Ledger(self._caps)
        return [number for number, uid, size in held if kept.take(uid, size) is not None]

    def take(self, uid: int, ring_bytes: int) -> Refusal | None:
        """Count a session in, or say which limit forbids it."""
        caps = self._caps
        if self.sessions >= caps.sessions or self._sessions[uid] >= caps.sessions_per_uid:
            return Refusal(
                "too-many-sessions",
                f"user {uid} holds {self._sessions[uid]} of {self.sessions} sessions here",
                "close producers that are not needed, or raise limits.sessions_per_uid_max"
                " or limits.sessions_max",
            )
        if (
            self._ring_bytes.total() + ring_bytes > caps.ring_bytes
            or self._ring_bytes[uid] + ring_bytes > caps.ring_bytes_per_uid
        ):
            return Refusal(
                "ring-bytes",
                f"user {uid} holds {self._ring_bytes[uid]} of {self._ring_bytes.total()} bytes"
                " of rings here",
                "ask for a smaller ring, or raise limits.ring_bytes_per_uid_max"
                " or limits.ring_bytes_total_max",
            )
        self._sessions[uid] += 1
        self._ring_bytes[uid] += ring_bytes
        return None

    def give_back(self, uid: int, ring_bytes: int) -> None:
        """Count a session out."""
        self._sessions[uid] -= 1
        self._ring_bytes[uid] -= ring_bytes
        assert self._sessions[uid] >= 0, "a session is counted out once"
        if not self._sessions[uid]:
            del self._sessions[uid], self._ring_bytes[uid]


def is_over_share(own: int, others: Sequence[tuple[int, float]], *, strict: bool = False) -> bool:
    """Whether this worker should leave new clients to the others.

    Args:
        own: Sessions of this worker.
        others: Sessions, and seconds since the last sign of life, of each other worker. One that
            gave none for a while (dead, stopped) takes nobody, so it does not count.
        strict: Leave them to whoever has fewest; else a few above the share do not matter.
    """
    alive = [sessions for sessions, age_s in others if age_s < HEARTBEAT_MAX_S]
    if not alive:
        return False
    if strict:
        return own > min(alive)
    share = (own + sum(alive)) / (1 + len(alive))
    return own > share + SHARE_SLACK
