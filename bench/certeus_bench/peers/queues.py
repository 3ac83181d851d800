"""Queues of Python: faster-fifo, ZeroMQ over a Unix socket, `multiprocessing.Queue`.

Both ends are Python's; the reader takes the CRC-32 of each message, which costs it less than making
an object of it. An application may put many events into one message; that can be done with each of
them, certeus included, so here each event is a message.
"""

import platform

from certeus_bench import native, ring
from certeus_bench.peers import installed
from certeus_bench.results import Measurement, Scope
from certeus_bench.scenario import Context, Scenario

PROGRAM = "certeus_bench.peers.programs.ring_queue"
SYSTEMS = {
    "faster-fifo": f"faster-fifo{installed.version('faster-fifo')}",
    "pyzmq": f"pyzmq{installed.version('pyzmq')}",
    "multiprocessing": f"multiprocessing.Queue {platform.python_version()}",
}
WHAT = {
    "ring/throughput-python": ("bytes", "A Python process puts bytes, one reads every byte."),
    "ring/throughput-dict": ("dict", "A Python process pickles and puts dicts, one reads all."),
}


def _scenario(name: str, queue: str) -> Scenario:
    data, what = WHAT[name]

    def measure(context: Context) -> Measurement:
        told = native.argument(context, queue=queue, data=data, payload_bytes=ring.PAYLOAD_BYTES)
        command = [installed.python("ring"), "-m", PROGRAM, told]
        with native.shared_memory(context):
            return native.decode(native.run(command, context))

    return Scenario(
        name=name, system=SYSTEMS[queue], scope=Scope.RING, what=what, measure=measure,
        settings={"data": data},
    )  # fmt: skip


SCENARIOS = [_scenario(name, queue) for name in WHAT for queue in SYSTEMS]
