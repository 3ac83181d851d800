"""Who asks: a user of this host by the kernel's word, or whoever has the key of the port.

A peer that the rule admits appends, and reads what the tenant has; `readers` read alone. A browser
asks its user for the key as a password (HTTP Basic), and sends it from then on with whatever a page
has it ask for: with that one reads, and nothing else.
"""

import base64
import hmac
from collections.abc import Mapping
from typing import NamedTuple

from certeusd import config_sources
from certeusd.api.problems import ProblemError
from certeusd.config import ApiSection
from certeusd.control.access import Who
from certeusd.peer import Peer
from certeusd.rule import Rule

SCHEME, BROWSERS = "Bearer ", "Basic "
CHALLENGE = f'{BROWSERS}realm="certeus: any name, and the key as password", charset="UTF-8"'
KEY_HEADER = "X-API-Key"


class Caller(NamedTuple):
    """Who asks, and what may they."""

    name: str
    """`uid:1000`, or `key`: for limits and logs."""
    uid: int | None
    """None: of the key."""
    appends: bool
    reads: bool


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
        name = f"uid:{peer.uid}"
        if self.rule.admits(peer):
            return Caller(name, peer.uid, appends=True, reads=True)
        return Caller(name, peer.uid, appends=False, reads=self._readers.has(peer))

    def of_headers(self, headers: Mapping[str, str]) -> Caller:
        """Return who sent these headers to the port; comparing takes the same time for any key."""
        told = headers.get("Authorization", "")
        by_browser = told.startswith(BROWSERS)
        if by_browser:
            given: str | None = _password(told.removeprefix(BROWSERS))
        else:
            bearer = told.startswith(SCHEME)
            given = told.removeprefix(SCHEME) if bearer else headers.get(KEY_HEADER)
        if given and self._key and hmac.compare_digest(_bytes(given), _bytes(self._key)):
            return Caller("key", None, appends=not by_browser, reads=True)
        browser = "text/html" in headers.get("Accept", "")
        raise ProblemError(
            401, "no-key", "no key",
            f"send the key of this port: Authorization: {SCHEME}KEY, or {KEY_HEADER}: KEY",
            headers={"WWW-Authenticate": CHALLENGE if browser else SCHEME.strip()},
        )  # fmt: skip


def _password(told: str) -> str:
    """Return what stands behind the name; nothing, where there is none."""
    try:
        return base64.b64decode(told, validate=True).decode().partition(":")[2]
    except ValueError:  # No base64, or not of UTF-8; what is not ASCII, too.
        return ""
