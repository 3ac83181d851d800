"""Who may append, as which tenant, under which sources: the rules of one listening socket.

Pure. The supervisor has already turned names into numbers and filled in the default (the daemon's
uid, root, members of group `certeus`); a rule without numbers lets nobody in.
"""

from dataclasses import dataclass

from certeusd.config import ListenerSection
from certeusd.peer import Peer

OVERFLOW_ID = 65534
"""What the kernel shows for an id that it cannot translate; it is nobody, so it never matches."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One listener."""

    tenant: str
    uids: frozenset[int]
    gids: frozenset[int]
    sources: tuple[str, ...]
    """Names, or prefixes that end in `*`."""

    @classmethod
    def of(cls, section: ListenerSection) -> "Rule":
        """Take what the effective configuration says."""
        return cls(
            tenant=section.tenant,
            uids=frozenset(section.uids) - {OVERFLOW_ID},
            gids=frozenset(section.gids) - {OVERFLOW_ID},
            sources=section.sources,
        )

    def admits(self, peer: Peer) -> bool:
        """Whether this user may append here at all."""
        return peer.uid in self.uids or not self.gids.isdisjoint(peer.gids)

    def allows(self, source: str) -> bool:
        """Whether a session may claim `source`; the kernel asks the same for each event's own."""
        return any(
            source.startswith(pattern[:-1]) if pattern.endswith("*") else source == pattern
            for pattern in self.sources
        )
