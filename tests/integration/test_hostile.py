"""What a hostile, unlucky or slow client can do, to itself and to the others: real processes."""

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import certeus
from support.daemon import Daemon, running
from support.waiting import wait_until

pytestmark = pytest.mark.integration

CONFIG = '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n[worker]\ncount = 1\n'
NO_JSON = b"{"
MANY = 6000
"""More verdicts than a verdict ring holds, twice over."""


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    with running(CONFIG) as daemon:
        yield daemon
        assert daemon.stop() == 0


def connected(daemon: Daemon) -> socket.socket:
    end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    end.settimeout(30.0)
    end.connect(daemon.ingest)
    return end


@pytest.mark.parametrize(
    "packet",
    [
        b'{"certeus":1,"producer":"\xff","source":"s","ring_bytes":65536}',
        b'{"certeus":1,"x":' + b"[" * 3900,
        b"\x01",
        b"{}",
    ],
    ids=["bytes-that-are-no-text", "nesting-without-end", "bell", "nothing"],
)
def test_a_packet_that_is_no_hello_harms_nobody(daemon: Daemon, packet: bytes) -> None:
    with certeus.connect(daemon.ingest, source="other") as other, connected(daemon) as end:
        end.send(packet)
        assert json.loads(end.recv(4096))["refused"] == "malformed-hello"
        other.wait_durable(other.append("t", 1), timeout=30.0)
        assert other.statistics().reconnects == 0


def test_rejections_beyond_a_verdict_ring_outlive_the_worker(daemon: Daemon) -> None:
    with certeus.connect(daemon.ingest, source="unlucky") as producer:
        # A producer of which nothing is logged is forgotten with its worker, and offers all again.
        producer.wait_durable(producer.append("t", 1), timeout=30.0)
        last = producer.append_many("t", [NO_JSON] * MANY)
        wait_until("decision", lambda: daemon.status()["log"]["rejected_total"] == MANY)
        daemon.kill("worker")
        with pytest.raises(certeus.RejectedError):
            producer.wait_durable(last, timeout=30.0)
        assert producer.statistics().reconnects == 1
        assert producer.statistics().rejected == MANY
        assert producer.receipt(last).verdict == "rejected"


def test_rejections_beyond_a_verdict_ring_wake_who_waits(daemon: Daemon) -> None:
    async def wait() -> None:
        async with await certeus.connect_async(daemon.ingest, source="waits") as producer:
            last = await producer.append_many("t", [NO_JSON] * MANY)
            with pytest.raises(certeus.RejectedError):
                await producer.wait_durable(last, timeout=30.0)
            assert producer.statistics().rejected == MANY

    asyncio.run(wait())


def test_who_has_a_session_is_not_forgotten_because_others_come_and_go() -> None:
    with running(CONFIG + "[dedup]\nproducers = 2\n") as daemon:
        producer = certeus.connect(daemon.ingest, source="idle")
        producer.wait_durable(producer.append("t", 1), timeout=30.0)
        for number in range(3):
            other = certeus.connect(daemon.ingest, source=f"goes-{number}")
            other.wait_durable(other.append("t", 1), timeout=30.0)
            # The connection ends, and nothing was said.
            del other
        producer.append("t", 2)
        producer.close(timeout=5.0)


def forgotten(daemon: Daemon, path: Path, *, unsettled: bool) -> certeus.Producer:
    """A producer that cannot come back before the log has forgotten it."""
    path.symlink_to(daemon.ingest)
    producer = certeus.connect(path, source="forgotten")
    producer.wait_durable(producer.append("t", 1), timeout=30.0)
    path.unlink()
    daemon.kill("worker")
    wait_until("the loss", lambda: not producer.statistics().connected)
    if unsettled:
        producer.append("t", 2)
    for number in range(3):
        with certeus.connect(daemon.ingest, source=f"other-{number}") as other:
            other.wait_durable(other.append("t", 1), timeout=30.0)
            daemon.kill("worker")
            other.wait_durable(other.append("t", 2), timeout=30.0)
    path.symlink_to(daemon.ingest)
    return producer


def test_forgotten_producer_goes_on_when_nothing_is_in_doubt(tmp_path: Path) -> None:
    with running(CONFIG + "[dedup]\nproducers = 1\n") as daemon:
        producer = forgotten(daemon, tmp_path / "link", unsettled=False)
        wait_until("new session", lambda: producer.statistics().connected)
        producer.wait_durable(producer.append("t", 3), timeout=30.0)
        assert producer.statistics().accepted == 2
        producer.close(timeout=30.0)
        assert daemon.status()["durable_seq"] == 8


def test_forgotten_producer_is_told_what_is_in_doubt(tmp_path: Path) -> None:
    with running(CONFIG + "[dedup]\nproducers = 1\n") as daemon:
        producer = forgotten(daemon, tmp_path / "link", unsettled=True)
        with pytest.raises(certeus.InDoubtError) as caught:
            producer.wait_durable(2, timeout=30.0)
        assert list(caught.value.tickets) == [2]
