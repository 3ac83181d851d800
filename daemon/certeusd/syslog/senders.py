"""Who sent a datagram, by the kernel's word, and so which source its event has.

A message can claim any host and any program; its source is what nobody can claim: the sender's
user, or the port where anybody of this host can send.
"""

import os

from certeusd.config import SyslogSection
from certeusd.directory import Lookups, name_of
from certeusd.rule import OVERFLOW_ID

SOURCE = "syslog"
UDP, TCP = f"{SOURCE}/udp", f"{SOURCE}/tcp"

Sender = tuple[int, int]
"""Uid and primary gid."""


class Senders:
    """The rule of `[syslog]`: who names nobody lets everybody in, as `/dev/log` does."""

    def __init__(self, syslog: SyslogSection) -> None:
        self._for_everyone = syslog.for_everyone
        self._uids = frozenset(syslog.uids) - {OVERFLOW_ID}
        self._gids = frozenset(syslog.gids) - {OVERFLOW_ID}
        self._sources = Lookups(self._ask)

    async def source_of(self, sender: Sender | None) -> str | None:
        """Return the source of what this user sends; none: it may not send.

        Whoever has the turn waits for the answer, and so do the others; the process lives on.
        """
        return await self._sources.get(sender or (OVERFLOW_ID, OVERFLOW_ID))

    def _ask(self, sender: Sender) -> str | None:
        uid, gid = sender
        name = name_of(uid)
        if self._for_everyone or uid in self._uids or self._is_member(name, gid):
            return f"{SOURCE}/{name}"
        return None

    def _is_member(self, name: str, gid: int) -> bool:
        """Whether one of the user's groups may: the kernel tells the first one alone."""
        if not self._gids:
            return False
        return gid in self._gids or not self._gids.isdisjoint(os.getgrouplist(name, gid))
