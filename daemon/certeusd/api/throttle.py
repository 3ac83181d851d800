"""`api.events_per_s_max` for requests: refused when they begin, slowed down where they are long."""

import asyncio
import contextlib
import math
import time
from collections.abc import Callable

from aiohttp import web

from certeusd.api.bucket import Bucket
from certeusd.api.peers import Caller
from certeusd.api.problems import ProblemError

LOOK_S = 1.0
"""How often one that waits looks whether its peer is still there."""


class Throttle:
    """One bucket for each caller."""

    def __init__(self, events_per_s_max: int, on_throttled: Callable[[], None]) -> None:
        self._bucket = Bucket(events_per_s_max)
        self._events_per_s_max = events_per_s_max
        self._on_throttled = on_throttled
        self._draining = asyncio.Event()

    def drain(self) -> None:
        """Let nobody wait any more, so that all are answered before the end."""
        self._draining.set()

    def check(self, caller: Caller) -> None:
        """Let a request in before it is known how much it brings.

        Raises:
            ProblemError: 429, with `Retry-After`.
        """
        self._refuse(self._bucket.wait_s(caller.name, time.monotonic()))

    def take(self, caller: Caller, events: int) -> None:
        """Let a request in and charge what it brings, one at least.

        Raises:
            ProblemError: 429, with `Retry-After`; nothing is charged.
        """
        self._refuse(self._bucket.take(caller.name, events, time.monotonic()))

    def charge(self, caller: Caller, events: int) -> None:
        """Charge what a request that was let in has brought; the next one waits for it."""
        self._bucket.charge(caller.name, events, time.monotonic())

    async def paced(self, request: web.BaseRequest, caller: Caller, events: int) -> None:
        """Charge a block of a request that was let in; what is below zero the next block waits for.

        Nothing is read meanwhile, so that the peer has to wait, too. The first block never waits.

        Raises:
            ConnectionError: the peer has gone meanwhile.
        """
        while (wait_s := self._bucket.wait_s(caller.name, time.monotonic())) > 0:
            if request.transport is None:
                raise ConnectionError("nobody waits for the rest of it")
            if self._draining.is_set():
                break
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._draining.wait(), min(wait_s, LOOK_S))
        self._bucket.charge(caller.name, events, time.monotonic())

    def _refuse(self, wait_s: float) -> None:
        if wait_s <= 0:
            return
        self._on_throttled()
        again_s = max(1, math.ceil(wait_s))
        raise ProblemError(
            429, "too-many-events", "too many events",
            f"at most {self._events_per_s_max} a second (api.events_per_s_max): try again in"
            f" {again_s} s", headers={"Retry-After": str(again_s)},
        )  # fmt: skip
