"""Who may ask what: the kernel's word for the peer of a connection, never the peer's own.

Being able to open `control.sock` (0660, and an entry for each that the configuration names) is the
first gate; the role of whoever is through is the second:

```text
reader     looks: state, health, metrics, workers
operator   and keeps it going: reload, retry
admin      and decides about data and life: gaps, dead letters, followers, drain, where the data is
owner      and sees passwords: the daemon's own uid, and root
```
"""

import os
import struct
from collections.abc import Iterable
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from certeusd.peer import Peer

_ACL = "system.posix_acl_access"
_ACL_VERSION = struct.pack("<I", 2)
_ENTRY = struct.Struct("<HHI")
_NOBODY = 0xFFFF_FFFF
"""Stands where an entry of an access list names nobody (linux/posix_acl_xattr.h)."""
_OWNER, _USER, _OWNING_GROUP, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_READ_WRITE, _NOTHING = 6, 0


class Access(IntEnum):
    """A role; who has one has all below it. A route names the least that may ask."""

    READER = 1
    OPERATOR = 2
    ADMIN = 3
    OWNER = 4

    @property
    def word(self) -> str:
        """How logs, problems and OpenAPI call it."""
        return self.name.lower()


class Who(NamedTuple):
    """Users and groups by their numbers."""

    uids: frozenset[int] = frozenset()
    gids: frozenset[int] = frozenset()

    def has(self, peer: Peer) -> bool:
        """Whether it names the peer, or one of its groups."""
        return peer.uid in self.uids or not self.gids.isdisjoint(peer.gids)


class Roles(NamedTuple):
    """What the configuration says."""

    readers: Who = Who()
    operators: Who = Who()
    admins: Who = Who()

    def of(self, peer: Peer, uid: int | None = None) -> Access | None:
        """Return the peer's role; `uid` is the daemon's own."""
        if peer.uid in (0, os.geteuid() if uid is None else uid):
            return Access.OWNER
        for who, access in (
            (self.admins, Access.ADMIN),
            (self.operators, Access.OPERATOR),
            (self.readers, Access.READER),
        ):
            if who.has(peer):
                return access
        return None


def let_in(path: Path, roles: Roles) -> None:
    """Let everybody who has a role open the socket, and nobody else: its access list.

    Raises:
        OSError: the file system has none, or the socket is not ours.
    """
    uids = frozenset[int]().union(*(who.uids for who in roles))
    gids = frozenset[int]().union(*(who.gids for who in roles))
    owning = _READ_WRITE if path.stat().st_gid in gids else _NOTHING
    entries = [
        (_OWNER, _READ_WRITE, _NOBODY),
        *((_USER, _READ_WRITE, uid) for uid in sorted(uids)),
        (_OWNING_GROUP, owning, _NOBODY),
        *((_GROUP, _READ_WRITE, gid) for gid in sorted(gids)),
        (_MASK, _READ_WRITE, _NOBODY),
        (_OTHER, _NOTHING, _NOBODY),
    ]
    os.setxattr(path, _ACL, _packed(entries))


def _packed(entries: Iterable[tuple[int, int, int]]) -> bytes:
    return _ACL_VERSION + b"".join(_ENTRY.pack(*entry) for entry in entries)
