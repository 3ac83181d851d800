"""What `certeus top` asks for: the control API at one moment."""

import time

import msgspec

from certeusd.control import types
from certeusd.control.client import ControlClient
from certeusd.control.sample import Sample
from certeusd.exits import Exit, ExitError


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
