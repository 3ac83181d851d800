"""What the user database says: it may be slow or away; then only who needs its answer waits."""

import asyncio
import pwd
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from certeus.aio_link import in_thread

KEPT_S = 60.0
KEPT_MAX = 1024

_K = TypeVar("_K")
_V = TypeVar("_V")


class Lookups(Generic[_K, _V]):
    """Answers by key: asked for again after a while; no more than so many are kept.

    Args:
        ask: the question, in a thread of its own; who asks the same meanwhile waits for it, too.
    """

    def __init__(self, ask: Callable[[_K], _V]) -> None:
        self._ask = ask
        self._asked = OrderedDict[_K, tuple[asyncio.Future[_V], float]]()

    async def get(self, key: _K) -> _V:
        """Return the answer; what `ask` raises is raised, and not kept."""
        asked = self._asked.get(key)
        if asked is None or (asked[0].done() and time.monotonic() >= asked[1]):
            asked = in_thread(partial(self._ask, key)), time.monotonic() + KEPT_S
            self._asked[key] = asked
            self._asked.move_to_end(key)
            if len(self._asked) > KEPT_MAX:
                self._asked.popitem(last=False)
        try:
            return await asyncio.shield(asked[0])
        except OSError:
            self._asked.pop(key, None)
            raise


def name_of(uid: int) -> str:
    """Return a user's name; the number of one that has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
