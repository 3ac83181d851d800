"""Garbage in a ring ends that session by name, is counted, and harms nobody else."""

import struct
from collections.abc import Iterator

import pytest

import certeus
from support.daemon import Daemon, running
from support.hostile import RING_BYTES, HostileClient, event, frame
from support.waiting import wait_until

pytestmark = pytest.mark.integration
CONFIG = '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n'


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running(CONFIG) as daemon:
        yield daemon
        assert daemon.stop() == 0


def violations(daemon: Daemon) -> int:
    rows = daemon.get("/v1/workers")["workers"]
    return sum(row["counters"].get("violations_total", 0) for row in rows)


GARBAGE = {
    "tail that is not aligned": (b"", 8, "ring-position"),
    "tail beyond the ring": (b"", RING_BYTES * 2, "ring-position"),
    "tail at the end of numbers": (b"", 2**64 - 16, "ring-position"),
    "length beyond the tail": (frame(1, event(b"{}"), length=4096), None, "ring-length"),
    "length of everything": (frame(1, event(b"{}"), length=0xFFFFFFFF), None, "ring-length"),
    "header with bits that are zero": (struct.pack("<QQ", 1 << 60, 1), None, "ring-kind"),
    "kind that nobody knows": (frame(1, event(b"{}"), kind=77), None, "ring-kind"),
    "padding that does not reach the end": (frame(0, b"", kind=0xFF), None, "ring-kind"),
    "ticket that is not the next": (frame(7, event(b"{}")), None, "ring-ticket"),
    "zeros": (bytes(4096), None, "ring-kind"),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_ends_the_session_by_name_and_others_go_on(daemon: Daemon, name: str) -> None:
    raw, tail, reason = GARBAGE[name]
    before = violations(daemon)
    with certeus.connect(daemon.ingest, source="honest") as honest:
        honest.wait_durable(honest.append("t", {"n": 1}), timeout=30.0)
        with HostileClient(daemon.ingest) as hostile:
            if tail is None:
                hostile.write(raw)
            else:
                hostile.commit(tail)
            assert hostile.ended() == reason
        honest.wait_durable(honest.append("t", {"n": 2}), timeout=30.0)
        assert honest.statistics().reconnects == 0
    wait_until("the count", lambda: violations(daemon) == before + 1)
    assert len(daemon.pids("worker")) == 1


PAYLOADS = {
    "too large": (event(b"1" * 300_000), "too-large"),
    "empty": (b"", "malformed-event"),
    "noise": (b"\xff" * 64, "malformed-event"),
    "no type": (event(b"{}", b""), "invalid-attribute"),
    "empty type": (event(b"{}", b"\x01\x00\x00"), "invalid-attribute"),
    "no such time": (event(b"{}", b"\x01\x01\x00t\x04\x03\x00now"), "invalid-time"),
    "no object": (event(b"{}", b"\x01\x01\x00t\x08\x04\x00[{}]"), "invalid-extensions"),
    "type twice": (event(b"{}", b"\x01\x01\x00t\x01\x01\x00t"), "malformed-event"),
}


@pytest.mark.parametrize("name", PAYLOADS)
def test_payload_that_no_library_writes_is_rejected_and_the_session_goes_on(
    daemon: Daemon, name: str
) -> None:
    payload, reason = PAYLOADS[name]
    before = rejected(daemon, reason)
    durable = daemon.status()["durable_seq"]
    with HostileClient(daemon.ingest) as hostile:
        hostile.write(frame(1, payload) + frame(2, event(b'{"good":true}')))
        wait_until("the good one", lambda: daemon.status()["durable_seq"] == durable + 1)
    assert rejected(daemon, reason) == before + 1


def rejected(daemon: Daemon, reason: str) -> int:
    field = f"{reason.replace('-', '_')}_total"
    rows = daemon.get("/v1/workers")["workers"]
    return sum(row["counters"].get(field, 0) for row in rows)
