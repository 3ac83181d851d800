"""Whether a hello gets a session, by the rule of the socket that it came through."""

from certeusd.peer import Peer
from certeusd.rule import Rule
from certeusd.worker.handshake import Refusal


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
