"""Who asks: a user of this host by the kernel's word, or whoever has the key of the port.

A peer that the rule admits appends, and reads what the tenant has; `readers` read alone. A browser
asks its user for the key as a password (HTTP Basic), and sends it from then on with whatever a page
has it ask for: with that one reads, and nothing else.
"""

import base64
import hmac
import pwd
import time
from collections import OrderedDict
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
USERS_KEPT_S = 60.0
USERS_MAX = 1024


class Caller(NamedTuple):
    """Who asks, and what may they."""

    name: str
    """`uid:1000`, or `key`: for limits and logs."""
    user: str
    """Its name, for the source of events that name none."""
    appends: bool
    reads: bool


class Users:
    """Names of users, asked for again after a while; no more than so many are kept."""

    def __init__(self) -> None:
        self._known: OrderedDict[int, tuple[str, float]] = OrderedDict()

    def name(self, uid: int, now: float) -> str:
        """Return a user's name; the number of one that has none.

        Args:
            uid: of the user.
            now: monotonic seconds.
        """
        known = self._known.get(uid)
        if known is not None and now < known[1]:
            return known[0]
        try:
            name = pwd.getpwuid(uid).pw_name
        except KeyError:
            name = str(uid)
        self._known[uid] = (name, now + USERS_KEPT_S)
        self._known.move_to_end(uid)
        if len(self._known) > USERS_MAX:
            self._known.popitem(last=False)
        return name


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")  # As aiohttp made it of a header.


class Peers:
    """The rule of `[api]`; the key is the port's."""

    def __init__(self, api: ApiSection, key: str | None) -> None:
        self.rule = Rule.of(api)
        self._readers: Who = config_sources.who("api.readers", api.readers)
        self._key = key
        self._users = Users()

    def of_user(self, peer: Peer) -> Caller:
        """Return who is at the other end of a Unix socket."""
        name, user = f"uid:{peer.uid}", self._users.name(peer.uid, time.monotonic())
        if self.rule.admits(peer):
            return Caller(name, user, appends=True, reads=True)
        return Caller(name, user, appends=False, reads=self._readers.has(peer))

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
            return Caller("key", "key", appends=not by_browser, reads=True)
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
