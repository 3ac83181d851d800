"""How many connections, or streams, each may have: counted, nothing else.

Whatever the configuration says, no peer gets more than half of all, so that one user with ten
thousand connections keeps nobody out. Who may do nothing here at all counts as one peer with all
others of that kind, whoever they are.
"""

STRANGERS = "strangers"
"""The peer that stands for all who may neither append nor read."""
STRANGERS_MAX = 64
DESCRIPTORS_RESERVED = 256
"""For producers, for the supervisor's answers, for whatever the process opens besides."""


class Slots:
    """Connections, or streams of one kind, by peer."""

    def __init__(self, most: int, per_peer_max: int) -> None:
        self.most = most
        self.per_peer = max(1, min(per_peer_max, most // 2))
        self._taken: dict[str, int] = {}
        self._total = 0

    def __len__(self) -> int:
        return self._total

    def take(self, peer: str) -> bool:
        """Take one for a peer; False: it has its share, or there are no more."""
        taken = self._taken.get(peer, 0)
        if self._total >= self.most or taken >= self._share(peer):
            return False
        self._taken[peer] = taken + 1
        self._total += 1
        return True

    def give_back(self, peer: str) -> None:
        """Give one back that was taken."""
        left = self._taken[peer] - 1
        self._total -= 1
        if left:
            self._taken[peer] = left
        else:
            del self._taken[peer]

    def _share(self, peer: str) -> int:
        return min(self.per_peer, STRANGERS_MAX) if peer == STRANGERS else self.per_peer


def affordable(connections_max: int, descriptors_max: int) -> int:
    """Return how many connections there may be where a process may open so many descriptors."""
    return max(2, min(connections_max, descriptors_max - DESCRIPTORS_RESERVED))
