"""iceoryx2: shared memory between processes, from Rust and from Python.

As `bench/native-peers` sets it up: no sample is lost, a full queue is waited for, both ends spin.
The programs are those that measure certeus, with iceoryx2's ends in place of the ring's; from
Python the reader is the native one too.
"""

from functools import partial

from certeus_bench import ring
from certeus_bench.native import Command, produced, scenario
from certeus_bench.peers import installed

SYSTEM = f"iceoryx2{installed.version('iceoryx2-rust')}"
BUILT = "target/release/"


def _writer() -> Command:
    return [installed.python("ring"), "-m", "certeus_bench.peers.programs.ring_iceoryx2"]


SCENARIOS = [
    scenario(
        "ring/one-way",
        SYSTEM,
        ring.SPINNING,
        partial(installed.built, f"{BUILT}iceoryx2-one-way"),
        payload_bytes=ring.PAYLOAD_BYTES,
    ),
    scenario(
        "ring/throughput",
        SYSTEM,
        ring.THROUGHPUT,
        partial(installed.built, f"{BUILT}iceoryx2-throughput"),
        payload_bytes=ring.PAYLOAD_BYTES,
    ),
    produced(
        "ring/throughput-python",
        f"iceoryx2{installed.version('iceoryx2')}",
        "A Python process copies each event into a loaned sample; a native one reads every byte.",
        partial(installed.built, f"{BUILT}iceoryx2-reader"),
        _writer,
        payload_bytes=ring.PAYLOAD_BYTES,
    ),
]
