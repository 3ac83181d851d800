"""Who asks: a user of this host by the kernel's word, or whoever has the key of the port.

A peer that the rule admits appends, and reads what the tenant has; `readers` read alone.
"""

import functools
import hmac
import pwd
from collections.abc import Mapping
from typing import NamedTuple

from certeusd import config_sources
from certeusd.api.problems import ProblemError
from certeusd.config import ApiSection
from certeusd.control.access import Who
from certeusd.peer import Peer
from certeusd.rule import Rule

SCHEME = "Bearer "
KEY_HEADER = "X-API-Key"


class Caller(NamedTuple):
    """Who asks, and what may they."""

    name: str
    """`uid:1000`, or `key`: for limits and logs."""
    user: str
    """Its name, for the source of events that name none."""
    appends: bool
    reads: bool


@functools.lru_cache(maxsize=1024)
def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")  # As aiohttp made it of a header.


class Peers:
    """The rule of `[api]`; the key is the port's."""

    def __init__(self, api: ApiSection, key: str | None) -> None:
        self.rule = Rule.of(api)
        self._readers: Who = config_sources.who("api.readers", api.readers)
        self._key = key

    def of_user(self, peer: Peer) -> Caller:
        """Return who is at the other end of a Unix socket."""
        name, user = f"uid:{peer.uid}", _user(peer.uid)
        if self.rule.admits(peer):
            return Caller(name, user, appends=True, reads=True)
        return Caller(name, user, appends=False, reads=self._readers.has(peer))

    def of_headers(self, headers: Mapping[str, str]) -> Caller:
        """Return who sent these headers to the port; comparing takes the same time for any key."""
        told = headers.get("Authorization", "")
        given = told.removeprefix(SCHEME) if told.startswith(SCHEME) else headers.get(KEY_HEADER)
        if given and self._key and hmac.compare_digest(_bytes(given), _bytes(self._key)):
            return Caller("key", "key", appends=True, reads=True)
        raise ProblemError(
            401, "no-key", "no key",
            f"send the key of this port: Authorization: {SCHEME}KEY, or {KEY_HEADER}: KEY",
            headers={"WWW-Authenticate": SCHEME.strip()},
        )  # fmt: skip
