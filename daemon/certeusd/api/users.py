"""Names of users: a directory may be slow or away; then nobody waits but who needs its answer."""

import asyncio
import pwd
import time
from collections import OrderedDict
from functools import partial

from certeus.aio_link import in_thread

KEPT_S = 60.0
KEPT_MAX = 1024


class Users:
    """What was asked, by uid: asked again after a while; no more than so many are kept."""

    def __init__(self) -> None:
        self._asked = OrderedDict[int, tuple[asyncio.Future[str], float]]()

    async def name(self, uid: int) -> str:
        """Return a user's name; the number of one that has none."""
        asked = self._asked.get(uid)
        if asked is None or (asked[0].done() and time.monotonic() >= asked[1]):
            asked = in_thread(partial(_name, uid)), time.monotonic() + KEPT_S
            self._asked[uid] = asked
            self._asked.move_to_end(uid)
            if len(self._asked) > KEPT_MAX:
                self._asked.popitem(last=False)
        return await asyncio.shield(asked[0])  # Others wait for it, too.


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OSError):
        return str(uid)
