"""What `certeus top` asks for: the control API at one moment."""

import time
from dataclasses import dataclass

import msgspec

from certeusd.control import types
from certeusd.control.client import ControlClient
from certeusd.exits import Exit, ExitError


@dataclass(frozen=True, slots=True)
class Sample:
    """Three answers, each with its own time: workers may take a second to tell theirs."""

    at: float
    """Seconds since 1970, to be shown."""
    status: types.Status
    status_at: float
    """Monotonic seconds, as all that follow."""
    producers: types.Producers
    producers_at: float
    followers: types.Followers | None
    """None: the log cannot be read now."""

    def continues(self, before: "Sample") -> bool:
        """Whether the same daemon told `before`, so that its counters have only grown."""
        now, then = self.status, before.status
        return now.pid == then.pid and now.uptime_seconds >= then.uptime_seconds


def take(client: ControlClient) -> Sample:
    """Ask the daemon.

    Raises:
        ExitError: it does not answer, or this user may not ask.
    """
    status = msgspec.convert(client.get("/v1/status"), types.Status)
    status_at = time.monotonic()
    producers = msgspec.convert(client.get("/v1/producers"), types.Producers)
    producers_at = time.monotonic()
    return Sample(
        at=time.time(),
        status=status,
        status_at=status_at,
        producers=producers,
        producers_at=producers_at,
        followers=_followers(client),
    )


def _followers(client: ControlClient) -> types.Followers | None:
    try:
        return msgspec.convert(client.get("/v1/followers"), types.Followers)
    except ExitError as error:
        if error.code is Exit.TRY_AGAIN:
            return None
        raise
