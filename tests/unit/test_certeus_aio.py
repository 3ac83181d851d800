import asyncio
import contextlib
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

import certeus
from support.fake_daemon import FakeDaemon, Session, Verdict

RING = 64 * 1024


@contextlib.asynccontextmanager
async def opened(
    path: Path,
) -> AsyncGenerator[tuple[FakeDaemon, certeus.AsyncProducer, Session], None]:
    with FakeDaemon(str(path / "ingest.sock")) as daemon:
        producer = await certeus.connect_async(daemon.path, source="test", ring_bytes=RING)
        session = daemon.session()
        yield daemon, producer, session
        with contextlib.suppress(certeus.Error):
            await producer.close(0)


def test_events_are_awaited_until_durable(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as (_, producer, session):
            session.serve()
            ticket = await producer.append("t", {"a": 1}, id="i")
            await producer.wait_durable(ticket, timeout=10)
            assert producer.receipt(ticket).seq == 1
            last = await producer.append_many("t", [b"1", {"b": 2}, certeus.Event("x")])
            await producer.wait_durable(last)
            assert producer.statistics().accepted == 4

    asyncio.run(main())


def test_many_tasks_wait_for_their_own_ticket(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as (_, producer, session):
            session.serve()

            async def one(n: int) -> int:
                ticket = await producer.append("t", b"x" * 2000)
                await producer.wait_durable(ticket)
                return ticket

            tickets = await asyncio.gather(*(one(n) for n in range(200)))
            assert sorted(tickets) == list(range(1, 201))

    asyncio.run(main())


def test_append_waits_while_the_ring_is_full_and_append_nowait_raises(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as (_, producer, session):
            with contextlib.suppress(certeus.RingFullError):
                while producer.append_nowait("t", b"x" * 4000) < 100:
                    pass
            count = producer.statistics().appended
            assert count == 16
            with pytest.raises(certeus.RingFullError):
                await producer.append("t", b"x" * 4000, timeout=0.001)
            waiting = asyncio.create_task(producer.append("t", b"x" * 4000))
            await asyncio.to_thread(session.accept, count)
            assert await waiting == count + 1

    asyncio.run(main())


def test_a_death_is_survived_and_the_unsettled_offered_again(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as (daemon, producer, session):
            last = await producer.append_many("t", [b"1", b"2", b"3"])
            session.accept(1)
            session.die()
            daemon.refuse("draining")
            again = await asyncio.to_thread(daemon.session)
            assert [event.ticket for event in await asyncio.to_thread(again.take, 2)] == [2, 3]
            again.settle(Verdict(seq=2), Verdict("rejected", reason="too-deep"))
            with pytest.raises(certeus.RejectedError, match="too-deep"):
                await producer.wait_durable(last)
            await producer.wait_durable(last)

    asyncio.run(main())


def test_a_session_comes_again_while_the_pool_of_the_loop_is_busy(tmp_path: Path) -> None:
    async def main() -> None:
        free = threading.Event()
        async with opened(tmp_path) as (daemon, producer, session):
            loop = asyncio.get_running_loop()
            loop.set_default_executor(ThreadPoolExecutor(1))
            busy = loop.run_in_executor(None, free.wait)
            try:
                ticket = await producer.append("t", b"1")
                session.die()
                # Not in a thread of the pool, which is busy: in one of its own.
                coming = Future[Session]()
                threading.Thread(target=lambda: coming.set_result(daemon.session())).start()
                second = await asyncio.wait_for(asyncio.wrap_future(coming), 20)
                second.serve()
                await producer.wait_durable(ticket, timeout=20)
            finally:
                free.set()
                await busy

    asyncio.run(main())


def test_a_final_refusal_wakes_whoever_waits(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as (daemon, producer, session):
            ticket = await producer.append("t", b"1")
            waiting = asyncio.create_task(producer.wait_durable(ticket))
            daemon.refuse("producer-expired")
            session.die()
            with pytest.raises(certeus.InDoubtError):
                await waiting

    asyncio.run(main())


def test_a_wait_gives_up_at_its_timeout(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as (_, producer, _):
            ticket = await producer.append("t", b"1")
            with pytest.raises(TimeoutError):
                await producer.wait_durable(ticket, timeout=0.001)

    asyncio.run(main())


def test_leaving_the_block_settles_and_says_goodbye(tmp_path: Path) -> None:
    async def main() -> None:
        with FakeDaemon(str(tmp_path / "ingest.sock")) as daemon:
            async with await certeus.connect_async(
                daemon.path, source="test", ring_bytes=RING
            ) as producer:
                session = daemon.session()
                session.serve()
                await producer.append("t", b"1")
            session.halt()
            assert session.received() == b'{"goodbye":true}'
            with pytest.raises(certeus.ClosedError):
                await producer.append("t", b"1")

    asyncio.run(main())


def test_close_while_the_daemon_is_away_ends_in_doubt(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as (daemon, producer, _):
            daemon.stop()
            await producer.append("t", b"1")
            with pytest.raises(certeus.InDoubtError) as caught:
                await producer.close(timeout=0.05)
            assert list(caught.value.tickets) == [1]

    asyncio.run(main())


def test_no_daemon_is_a_connect_error(tmp_path: Path) -> None:
    with pytest.raises(certeus.ConnectError):
        asyncio.run(certeus.connect_async(tmp_path / "nobody", source="test"))
