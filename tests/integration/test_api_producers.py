"""One producer for each peer: who waits for it, for how long, and when it is closed."""

import asyncio
import signal
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import cast

import pytest

from certeusd import doors
from certeusd.api import producers as module
from certeusd.api.peers import Caller
from certeusd.api.problems import ProblemError
from certeusd.api.producers import Producers
from certeusd.config import ApiSection, Config
from certeusd.door_process import DoorProcess
from certeusd.rule import Rule
from support.api_client import Api
from support.daemon import Daemon, running

pytestmark = pytest.mark.integration

AWAY = '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n'
ONE, OTHER = (Caller(name, None, appends=True, reads=True) for name in ("one", "other"))
WAIT_S = 30.0


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with running(AWAY, doors=["api"]) as daemon:
        yield daemon
        assert daemon.stop() == 0


def producers_of(daemon: Daemon) -> Producers:
    """What the api has, in this process, at the daemon's own socket."""
    process = SimpleNamespace(
        config=Config(), private_socket=doors.private_path(daemon.runtime_dir, "api")
    )
    rule = Rule.of(ApiSection())
    return Producers(cast(DoorProcess, process), rule)


def test_one_that_is_used_is_not_closed(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET_S", -1.0)
    monkeypatch.setattr(module, "PRODUCERS_MAX", 1)

    async def run() -> None:
        producers = producers_of(daemon)
        async with producers.of(ONE, WAIT_S) as first, producers.of(ONE, WAIT_S) as second:
            assert first is second
            await producers.close_quiet()
            with pytest.raises(ProblemError, match="others append"):
                async with producers.of(OTHER, WAIT_S):
                    pass
            assert first.door.usable
        async with producers.of(OTHER, WAIT_S) as other:
            assert other.door.usable
            assert not first.door.usable
        await producers.close_quiet()
        assert len(producers) == 0

    asyncio.run(run())


def test_those_that_wait_share_one_attempt_and_end_in_their_own_time(daemon: Daemon) -> None:
    async def failure(producers: Producers, caller: Caller, timeout_s: float) -> float:
        began = time.monotonic()
        with pytest.raises(ProblemError, match="no worker has answered"):
            async with producers.of(caller, timeout_s):
                pass
        return time.monotonic() - began

    async def run() -> None:
        producers = producers_of(daemon)
        daemon.kill("worker", signal.SIGSTOP)
        try:
            waited = await asyncio.gather(
                *(failure(producers, ONE, 0.3) for _ in range(20)), failure(producers, OTHER, 0.3)
            )
            assert max(waited) < 3
        finally:
            daemon.kill("worker", signal.SIGCONT)
        async with producers.of(ONE, WAIT_S) as one:
            assert one.door.usable
        await producers.close(WAIT_S)

    asyncio.run(run())


def test_a_request_keeps_to_its_time_when_no_worker_answers(daemon: Daemon) -> None:
    api = Api(daemon.runtime_dir / "api.sock")
    daemon.kill("worker", signal.SIGSTOP)
    try:
        began = time.monotonic()
        answer = api.lines([{}], "?type=t&source=s&timeout_s=0.3")
        assert (answer.status, answer.json["type"]) == (503, "urn:certeus:problem:no-worker")
        assert time.monotonic() - began < 3
    finally:
        daemon.kill("worker", signal.SIGCONT)
    assert api.lines([{}], "?type=t&source=s").status == 200
