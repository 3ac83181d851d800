"""Token buckets: a table of what they say, and what holds for any order of requests."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from certeusd.api.bucket import Bucket
from certeusd.api.connections import State
from certeusd.api.peers import Caller
from certeusd.api.problems import ProblemError
from certeusd.api.throttle import Throttle
from support.api_front import front, get
from support.waiting import wait_until

SOON_S = 20.0
CALLER = Caller("uid:1", 1, appends=True, reads=True)


@pytest.mark.parametrize(
    ("requests", "waits"),
    [
        ([(0.0, 10), (0.0, 1)], [0.0, 0.1]),
        ([(0.0, 9), (0.0, 1), (0.0, 1)], [0.0, 0.0, 0.1]),
        ([(0.0, 25), (1.0, 1), (1.6, 1)], [0.0, 0.6, 0.0]),
        ([(0.0, 10), (0.05, 1), (0.1, 0), (0.1, 0)], [0.0, 0.0, 0.1, 0.1]),
        ([(0.0, 1), (100.0, 10), (100.0, 1)], [0.0, 0.0, 0.1]),
        ([(5.0, 10), (4.0, 1)], [0.0, 0.1]),
        ([(0.0, 0)] * 11, [0.0] * 10 + [0.1]),
    ],
    ids=["empty", "full", "below zero", "fraction", "never above full", "clock", "one at least"],
)
def test_a_bucket_of_ten_a_second(requests: list[tuple[float, int]], waits: list[float]) -> None:
    bucket = Bucket(10)
    assert [bucket.take("a", n, at) for at, n in requests] == pytest.approx(waits)


def test_none_is_configured_and_nobody_waits() -> None:
    bucket = Bucket(0)
    assert [bucket.take("a", 10**9, 0.0) for _ in range(100)] == [0.0] * 100
    assert len(bucket) == 0


def test_each_peer_has_its_own() -> None:
    bucket = Bucket(10)
    assert bucket.take("a", 1000, 0.0) == 0.0
    assert bucket.take("b", 10, 0.0) == 0.0
    assert bucket.take("a", 1, 0.0) > 99


_STEPS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.integers(0, 500), st.floats(0, 2)), max_size=60
)


@given(rate=st.integers(1, 100), steps=_STEPS)
def test_in_the_long_run_nobody_gets_more_than_the_rate(
    rate: int, steps: list[tuple[str, int, float]]
) -> None:
    bucket, now = Bucket(rate), 0.0
    taken = dict.fromkeys("abcd", 0)
    last = dict.fromkeys("abcd", 0)
    for peer, events, pause in steps:
        now += pause
        wait = bucket.take(peer, events, now)
        if wait:
            assert bucket.wait_s(peer, now + wait + 1e-6) == 0, "after that time it is let in"
            continue
        last[peer] = max(1, events)
        taken[peer] += last[peer]
        assert taken[peer] <= rate * (now + 1) + last[peer] + 1e-6


@given(steps=_STEPS)
def test_memory_is_bounded_and_who_owes_is_remembered(steps: list[tuple[str, int, float]]) -> None:
    bucket, now = Bucket(10, peers_max=2), 0.0
    for peer, events, pause in steps:
        now += pause
        bucket.charge(peer, events, now)
        assert len(bucket) <= 2
    bucket.charge("debtor", 100_000, now)
    for other in "efgh":
        bucket.charge(other, 1, now)
        assert len(bucket) <= 2
    assert bucket.wait_s("debtor", now) > 0


def test_a_caller_that_must_wait_is_told_for_how_long() -> None:
    counted = list[int]()
    throttle = Throttle(10, lambda: counted.append(1))
    throttle.check(CALLER)
    throttle.take(CALLER, 35)
    refusals: list[Callable[[], None]] = [
        lambda: throttle.take(CALLER, 1),
        lambda: throttle.check(CALLER),
    ]
    for refuse in refusals:
        with pytest.raises(ProblemError, match=r"at most 10 a second") as refused:
            refuse()
        assert refused.value.status == 429
        assert refused.value.headers == {"Retry-After": "3"}
        assert refused.value.document["type"] == "urn:certeus:problem:too-many-events"
    assert len(counted) == 2


def test_a_long_stream_goes_on_at_the_rate_and_its_end_waits_for_nothing(tmp_path: Path) -> None:
    throttle, waited = Throttle(20, lambda: None), list[bool]()

    async def stream(request: web.BaseRequest) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        for _ in range(3):
            begun = loop.time()
            await throttle.paced(request, CALLER, 25)
            waited.append(loop.time() - begun > 0.1)
        return web.Response()

    with front(tmp_path, stream) as served:
        assert served.asked(get()).startswith(b"HTTP/1.1 200")
    assert waited == [False, True, True]
    with pytest.raises(ProblemError):
        throttle.check(CALLER)


def test_a_stream_whose_peer_has_gone_waits_no_longer(tmp_path: Path) -> None:
    throttle = Throttle(1, lambda: None)

    async def stream(request: web.BaseRequest) -> web.StreamResponse:
        await throttle.paced(request, CALLER, 10**9)
        await throttle.paced(request, CALLER, 1)
        raise AssertionError("it was let go on")

    with front(tmp_path, stream) as served:
        with served.connected() as end:
            end.sendall(get())
            wait_until("it", lambda: State.ANSWERING in served.connections.states(), SOON_S)
        wait_until("its slot", lambda: len(served.connections) == 0, SOON_S)
