"""Connections that no library makes: every one is answered by name or ends, and costs nobody else.

Each case is one or more connections with a hello that is wrong in some way, or right and then
abused; beside it a well-behaved producer has its events acknowledged. Descriptors and memory of the
worker are what they were, at the end.
"""

import array
import contextlib
import ctypes
import fcntl
import json
import mmap
import os
import random
import socket
from collections import Counter
from collections.abc import Callable
from functools import partial

import pytest

import certeus
from support import processes
from support.attack import Attack, Outcome
from support.daemon import Daemon, running
from support.hostile import (
    PAGE_BYTES,
    HostileClient,
    connected,
    event,
    frame,
    hello,
)
from support.waiting import wait_until

pytestmark = [pytest.mark.crash, pytest.mark.integration]

CONFIG = '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n[worker]\ncount = 1\n'
RING_BYTES = 64 * 1024
REFUSALS = {
    "malformed-hello", "version", "ring-bytes", "hello-timeout", "too-many-sessions",
    "producer-expired",
}  # fmt: skip
FALLOC_FL_PUNCH_HOLE, FALLOC_FL_KEEP_SIZE = 2, 1


def answer(end: socket.socket) -> str:
    """How the daemon answers: ``welcome``, a reason, or ``end`` for a closed connection."""
    descriptors: list[int] = []
    try:
        packet, descriptors, _, _ = socket.recv_fds(end, 65536, 8)
    except ConnectionResetError:
        return "end"
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    if not packet:
        return "end"
    said = json.loads(packet)
    return "welcome" if "welcome" in said else str(said.get("refused", said.get("ended")))


def mutated_hello(path: str, rng: random.Random) -> str:
    """A hello with one key changed, missing, doubled or of another type, or bytes that are none."""
    message = hello("shake", RING_BYTES)
    key = rng.choice(list(message))
    odd: tuple[object, ...] = (
        None,
        -1,
        2**63,
        2**64,
        "",
        "x" * 300,
        [],
        {},
        True,
        1.5,
        "\0",
        2**62,
        "é" * 200,
    )
    how = rng.randrange(5)
    if how == 0:
        del message[key]
    elif how == 1:
        message[key] = rng.choice(odd)
    raw = json.dumps(message).encode()
    if how == 2:
        at = rng.randrange(len(raw))
        raw = raw[:at] + rng.randbytes(rng.randrange(1, 5)) + raw[at + 1 :]
    elif how == 3:
        raw = rng.randbytes(rng.randrange(1, 4096))
    elif how == 4:
        raw = raw[: rng.randrange(1, len(raw))]
    with connected(path) as end:
        end.send(raw)
        got = answer(end)
    assert got in REFUSALS | {"welcome"}, f"{raw!r}: {got}"
    return got


def oversize_hello(path: str, rng: random.Random) -> str:
    message = {**hello("shake", RING_BYTES), "pad": "x" * rng.randrange(4096, 60_000)}
    with connected(path) as end:
        end.send(json.dumps(message).encode())
        got = answer(end)
    assert got == "malformed-hello", got
    return got


def several_packets(path: str, rng: random.Random) -> str:
    """A second packet before the welcome: garbage, another hello, an empty one, a bell."""
    second = rng.choice((b"\x01", b"{}", b"x" * 4096, json.dumps(hello()).encode()))
    with connected(path) as end:
        end.send(json.dumps(hello("shake", RING_BYTES)).encode())
        with contextlib.suppress(OSError):
            end.send(second)
        got = answer(end)
        if got == "welcome":
            got = answer(end)
    assert got in {"malformed-message", "end"}, got
    return got


def half_a_handshake(path: str, rng: random.Random) -> str:
    """It says hello and is gone before, or does not read, its welcome."""
    with connected(path) as end:
        end.send(json.dumps(hello("shake", RING_BYTES)).encode())
        if rng.random() < 0.5:
            end.shutdown(rng.choice((socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR)))
    return "gone"


def foreign_descriptors(path: str, rng: random.Random) -> str:
    """Descriptors sent to the daemon, with a hello and after it, whatever they are."""
    with contextlib.ExitStack() as stack:
        null = os.open("/dev/null", os.O_RDONLY)
        stack.callback(os.close, null)
        rights = array.array("i", [null] * rng.choice((1, 3, 253)))
        end = stack.enter_context(connected(path))
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)]
        end.sendmsg([json.dumps(hello("shake", RING_BYTES)).encode()], ancillary)
        got = answer(end)
        assert got == "welcome", got
        end.sendmsg([b'{"goodbye":true}'], ancillary)
        assert answer(end) == "end"
    return got


def no_room_for_descriptors(path: str, rng: random.Random) -> str:
    """A client that takes the welcome without its descriptors: MSG_CTRUNC is its own problem."""
    with connected(path) as end:
        end.send(json.dumps(hello("shake", RING_BYTES)).encode())
        _, _, flags, _ = end.recvmsg(65536, rng.choice((0, socket.CMSG_LEN(4))))
        assert flags & socket.MSG_CTRUNC
    return "truncated"


def flood(path: str, rng: random.Random) -> str:
    """Many connections that say nothing; the oldest ones go when there are too many."""
    with contextlib.ExitStack() as stack:
        ends = [stack.enter_context(connected(path)) for _ in range(rng.choice((70, 100)))]
        got = answer(ends[0])
    assert got in {"draining", "too-many-sessions", "hello-timeout"}, got
    return got


def slow_hellos(path: str, rng: random.Random) -> str:
    """Connections that say nothing in time; whoever comes after them is served at once."""
    with contextlib.ExitStack() as stack:
        ends = [stack.enter_context(connected(path)) for _ in range(rng.randrange(1, 40))]
        with HostileClient(path, "shake", RING_BYTES) as client:
            client.write(frame(1, event(b'{"n":1}')))
            wait_until("its verdict", lambda: client.settled() == 1)
        got = {answer(end) for end in ends}
    assert got == {"hello-timeout"}, got
    return "hello-timeout"


def changed_memory(path: str, rng: random.Random) -> str:
    """Every harm that seals forbid is forbidden; the one that they allow is read as zeros."""
    with HostileClient(path, "shake", RING_BYTES) as client:
        for descriptor in (client.p, client.c):
            for change in (RING_BYTES // 2, RING_BYTES * 4, 0):
                with pytest.raises(OSError, match="not permitted"):
                    os.ftruncate(descriptor, change)
            with pytest.raises(OSError, match="not permitted"):
                fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        for write in _writes(client.c):
            with pytest.raises(OSError, match="not permitted"):
                write()
        client.write(frame(1, event(b'{"n":1}')))
        wait_until("its verdict", lambda: client.settled() == 1)
        punch(client.p, rng.choice((0, PAGE_BYTES)), rng.choice((PAGE_BYTES, RING_BYTES)))
        client.write(frame(2, event(b'{"n":2}')))
        wait_until("an answer", lambda: client.settled() == 2 or client.word() is not None)
    return "sealed"


def _writes(descriptor: int) -> list[Callable[[], object]]:
    def map_writable() -> None:
        mmap.mmap(descriptor, PAGE_BYTES)

    def open_again() -> None:
        again = os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR)
        try:
            os.pwrite(again, b"x" * 64, 384)
        finally:
            os.close(again)

    return [
        map_writable, open_again, lambda: os.pwrite(descriptor, b"x" * 64, 384),
        lambda: punch(descriptor, 0, PAGE_BYTES),
    ]  # fmt: skip


def punch(descriptor: int, offset: int, size: int) -> None:
    """Punch a hole."""
    libc = ctypes.CDLL(None, use_errno=True)
    mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
    if libc.fallocate(descriptor, mode, ctypes.c_long(offset), ctypes.c_long(size)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def odd_doorbell(path: str, rng: random.Random) -> str:
    """The doorbell filled to the brim, emptied by the client, and made to block."""
    with HostileClient(path, "shake", RING_BYTES) as client:
        os.set_blocking(client.doorbell, True)
        os.eventfd_write(client.doorbell, 2**64 - 2)
        if rng.random() < 0.5:
            os.eventfd_read(client.doorbell)
        os.set_blocking(client.doorbell, False)
        with contextlib.suppress(BlockingIOError):
            client.write(frame(1, event(b'{"n":1}')))
            wait_until("its verdict", lambda: client.settled() == 1)
    return "rung"


def full_verdict_ring(path: str, rng: random.Random) -> str:
    """It has more rejected than the verdict ring holds, reads none, and is gone."""
    with HostileClient(path, "shake", 256 * 1024) as client:
        client.write(b"".join(frame(ticket, b"") for ticket in range(1, 8000)))
        wait_until("a full verdict ring", lambda: client.settled() >= 2048)
        # What it says it has read cannot be more than there is, nor less than it said before.
        client.memory[384:392] = rng.choice((0, 5, 2048, 2**63, 2**64 - 1)).to_bytes(8, "little")
        client.memory[256:264] = bytes(8)
        client.commit(client.tail)
    return "unread"


def silent_bell(path: str, rng: random.Random) -> str:
    """A client that wants its bell at once, always, and never reads its socket."""
    with HostileClient(path, "shake", RING_BYTES) as client:
        for ticket in range(1, 300):
            client.memory[256:272] = (ticket - 1).to_bytes(8, "little") * 2
            client.write(frame(ticket, event(b"1")))
            if ticket % 10 == 0:
                wait_until("verdicts", partial(_is_settled, client, ticket - 5))
    return "unheard"


def _is_settled(client: HostileClient, ticket: int) -> bool:
    return client.settled() >= ticket


def busy_reconnects(path: str, rng: random.Random) -> str:
    """One producer that says hello again and again, while its last session still lives."""
    message = hello("shake", RING_BYTES)
    with contextlib.ExitStack() as stack:
        for _ in range(rng.randrange(3, 12)):
            end = stack.enter_context(connected(path))
            end.send(json.dumps(message).encode())
            assert answer(end) == "welcome"
            message["birth_seq"] = message["birth_seq"] or 0
    return "superseded"


def largest_events(path: str, rng: random.Random) -> str:
    """Events as large as they may be, as fast as they go."""
    with certeus.connect(path, source="shake", ring_bytes=4 << 20) as producer:
        data = b'"' + b"x" * (256 * 1024 - 2) + b'"'
        last = 0
        for _ in range(rng.randrange(5, 20)):
            last = producer.append("large", data)
        producer.wait_durable(last, timeout=60.0)
    return "large"


def forked_producer(path: str, rng: random.Random) -> str:
    """A child that uses what its parent made, through the fork and past it."""
    with certeus.connect(path, source="shake") as producer:
        last = producer.append("t", 1)
        child = os.fork()
        if child == 0:
            try:
                producer.append("t", 2)
            except certeus.ForkedError:
                os._exit(0)
            os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0, "a child appended into its parent's ring"
        producer.wait_durable(last, timeout=60.0)
    return "forked"


CASES = (
    (mutated_hello, 30), (oversize_hello, 4), (several_packets, 6), (half_a_handshake, 10),
    (foreign_descriptors, 6), (no_room_for_descriptors, 4), (flood, 1), (slow_hellos, 1),
    (changed_memory, 4),
    (odd_doorbell, 4), (full_verdict_ring, 2), (silent_bell, 1), (busy_reconnects, 4),
    (largest_events, 1), (forked_producer, 1),
)  # fmt: skip


def harmless(daemon: Daemon, honest: certeus.Producer, number: int) -> None:
    """A well-behaved producer's event is acknowledged."""
    try:
        honest.wait_durable(honest.append("honest", {"n": number}), timeout=30.0)
    except TimeoutError:
        raise AssertionError(f"an honest producer waits for ever:\n{daemon.log_tail()}") from None


@pytest.mark.timeout(900)
def test_connections_that_no_library_makes_are_answered_and_cost_nobody_else(
    attack: Attack,
) -> None:
    count = attack.cases(len(CASES) + 40, 3000)
    with running(CONFIG) as daemon, certeus.connect(daemon.ingest, source="honest") as honest:
        (worker,) = processes.find(daemon, "worker")
        done = Counter[str]()
        harmless(daemon, honest, 0)
        descriptors, rss = processes.descriptors(worker), 0
        weights = [weight for _, weight in CASES]
        for number in range(count):
            rng = random.Random(attack.rng.random())
            case = CASES[number] if number < len(CASES) else rng.choices(CASES, weights)[0]
            done[f"{case[0].__name__}: {case[0](daemon.ingest, rng)}"] += 1
            harmless(daemon, honest, number + 1)
            if number == count // 5:
                rss = processes.rss_bytes(worker)
        assert processes.find(daemon, "worker") == [worker], "a worker was replaced"
        wait_until("descriptors", lambda: processes.descriptors(worker) <= descriptors)
        assert processes.rss_bytes(worker) - rss < 32 << 20, "the worker's memory grew"
        now = honest.statistics()
        assert (now.reconnects, now.resent, now.accepted) == (0, 0, count + 1)
        wait_until("sessions freed", lambda: daemon.status()["sessions"] == 1)
    print("\n".join(f"{n:5} {name}" for name, n in sorted(done.items())))
    attack.report(Outcome("hostile handshakes and sessions", count, count + 1))
