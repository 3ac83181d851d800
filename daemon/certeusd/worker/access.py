"""Who may append, as which tenant, under which sources: the rules of one `[[ingest]]`.

Pure. The supervisor has already turned names into numbers and filled in the default (the daemon's
uid, root, members of group `certeus`); a rule without numbers lets nobody in.
"""

from dataclasses import dataclass

from certeusd.config import IngestSection
from certeusd.peer import Peer
from certeusd.worker.handshake import Refusal

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
    def of(cls, section: IngestSection) -> "Rule":
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


def decide(rule: Rule, peer: Peer, source: str) -> Refusal | None:
    """Return why this hello is refused; `None`: it is not."""
    if not rule.admits(peer):
        return Refusal(
            "uid-not-allowed",
            f"user {peer.uid} may not append to tenant {rule.tenant}",
            "add the user to [[ingest]] uids, users, gids or groups, or to group certeus,"
            " and reload",
        )
    if not rule.allows(source):
        return Refusal(
            "source-not-allowed",
            f"source {source!r} is not one of those that this socket allows",
            "use one of [[ingest]] sources, or add this one there and reload",
        )
    return None
