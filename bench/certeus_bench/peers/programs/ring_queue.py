"""One process writes events into a queue of Python's, another reads every byte of them.

python -m certeus_bench.peers.programs.ring_queue '{"queue": "pyzmq", ...}'

Runs by the interpreter that has the queues; it is the reader, and forks its writer. Each event is a
message of its own, put in by the queue's own call for many where it has one, and waited for while
there is no room. What is read is the CRC-32 of each message, from the queue's memory where it hands
that out. The writer's last messages are empty: they end the reading.
"""

import ctypes
import itertools
import json
import multiprocessing
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable, Iterable
from importlib import import_module
from multiprocessing.connection import Connection
from typing import NamedTuple
from zlib import crc32

from certeus_bench.peers.producing import written_sum
from certeus_bench.rows import make_rows

BATCH = 512
"""Events between two looks at the clock, on either side."""
END = [b""] * BATCH
RING_BYTES = 4 << 20
INTERVAL_NS = 100_000_000
PR_SET_PDEATHSIG = 1

Write = Callable[[Iterable[bytes]], object]
Read = Callable[[], list[int]]


class Queue(NamedTuple):
    """Both ends, each to be opened by its own process."""

    writer: Callable[[], Write]
    reader: Callable[[], Read]


class Settings(NamedTuple):
    """The program's only argument."""

    queue: str
    data: str
    """``bytes``: as they are; ``dict``: pickled, which is how these queues carry objects."""
    payload_bytes: int
    warmup_seconds: float
    seconds: float
    cpus: list[int]
    home: str


def faster_fifo(_: Settings) -> Queue:
    """A ring in shared memory, guarded by a mutex."""
    queue = import_module("faster_fifo").Queue(RING_BYTES, loads=crc32, dumps=bytes)

    def write(messages: Iterable[bytes]) -> None:
        queue.put_many(list(messages), timeout=1e9)

    return Queue(lambda: write, lambda: lambda: queue.get_many(timeout=1e9))


def standard(settings: Settings) -> Queue:
    """`multiprocessing.Queue`: a pipe, a lock, a thread that writes; no call for many."""
    queue: multiprocessing.Queue[bytes] = multiprocessing.Queue(
        RING_BYTES // settings.payload_bytes
    )

    def write(messages: Iterable[bytes]) -> None:
        for message in messages:
            queue.put(message)

    return Queue(lambda: write, lambda: lambda: [crc32(queue.get()) for _ in range(BATCH)])


def pyzmq(settings: Settings) -> Queue:
    """PUSH to PULL over a Unix socket; each process has a thread of ZeroMQ's that moves bytes."""
    zmq, place = import_module("zmq"), f"ipc://{settings.home}/queue"
    held = RING_BYTES // settings.payload_bytes

    def reader() -> Read:
        socket = zmq.Context.instance().socket(zmq.PULL)
        socket.rcvhwm = held
        socket.bind(place)
        receive = socket.recv
        return lambda: [crc32(receive()) for _ in range(BATCH)]

    def writer() -> Write:
        socket = zmq.Context.instance().socket(zmq.PUSH)
        socket.sndhwm = held
        socket.connect(place)

        def write(messages: Iterable[bytes]) -> None:
            for message in messages:
                socket.send(message)

        return write

    return Queue(writer, reader)


QUEUES = {"faster-fifo": faster_fifo, "multiprocessing": standard, "pyzmq": pyzmq}


def produce(settings: Settings, queue: Queue, reader: Connection) -> None:
    """Write for longer than is measured; tell the sum of all that was written, and its mean size.

    What threads of this process carry is lost if it ends before the reader has all.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    os.sched_setaffinity(0, settings.cpus[:1])
    rows = make_rows(settings.payload_bytes, seed=0)
    objects = [json.loads(row) for row in rows] if settings.data == "dict" else []
    write, count = queue.writer(), 0
    begins = itertools.cycle(range(0, len(rows), BATCH))
    until = time.monotonic() + settings.warmup_seconds + settings.seconds + 0.5
    while time.monotonic() < until:
        begin = next(begins)
        if objects:
            write(map(pickle.dumps, objects[begin : begin + BATCH]))
        else:
            write(rows[begin : begin + BATCH])
        count += BATCH
    write(END)
    messages = [pickle.dumps(one) for one in objects] or rows
    reader.send((written_sum(messages, count), sum(map(len, messages)) / len(messages)))
    reader.recv()


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time of living processes: the clocks that `clock_getcpuclockid` names."""
    return sum(time.clock_gettime((~pid << 3) | 2) for pid in pids)


def measure(settings: Settings) -> dict[str, object]:
    """Read all; what was measured, as `certeus_bench.results.Measurement` has it."""
    queue = QUEUES[settings.queue](settings)
    near, far = multiprocessing.Pipe()
    writer = multiprocessing.Process(target=produce, args=(settings, queue, far), daemon=True)
    writer.start()
    os.sched_setaffinity(0, settings.cpus[-1:])
    pids = [os.getpid(), writer.pid or 0]
    read, clock = queue.reader(), time.monotonic_ns
    read_sum = sum(read())
    started = clock()
    begin, seconds_ns = (
        started + round(settings.warmup_seconds * 1e9),
        round(settings.seconds * 1e9),
    )
    now, sums = started, [1]
    while now < begin:
        sums = read()
        read_sum += sum(sums)
        now = clock()
    first, cpu, counted, ends = now, cpu_seconds(pids), 0, [0]
    while now < begin + seconds_ns:
        sums = read()
        read_sum += sum(sums)
        counted += len(sums)
        now = clock()
        ends += [counted] * ((now - first) // INTERVAL_NS + 1 - len(ends))
    ends.append(counted)
    cpu = cpu_seconds(pids) - cpu
    while sums[-1]:
        sums = read()
        read_sum += sum(sums)
    written, bytes_each = near.recv()
    near.send("read")
    writer.join()
    return {
        "operations": counted,
        "seconds": (now - first) / 1e9,
        "warmup_seconds": (first - started) / 1e9,
        "bytes_each": round(bytes_each),
        "intervals": [after - before for before, after in itertools.pairwise(ends)],
        "interval_seconds": INTERVAL_NS / 1e9,
        "written_sum": written,
        "read_sum": read_sum % 2**64,
        "cpu_seconds": cpu,
    }


def main() -> None:
    """Measure one queue."""
    multiprocessing.set_start_method("fork")
    json.dump(measure(Settings(**json.loads(sys.argv[1]))), sys.stdout)


if __name__ == "__main__":
    main()
