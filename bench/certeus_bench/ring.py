"""The ring: from one process to another through memory, as library and worker use it.

The native programs measure the ring itself. For Python producers the reader is native and does what
a worker does without a log behind it: reads, settles, releases; what is measured is the producer.
"""

import msgspec

from certeus_bench.native import Value, built, produced, python, run_pair, scenario
from certeus_bench.results import Measurement, Scope
from certeus_bench.scenario import Context, Scenario

ONE_WAY = (
    "One event at a time through a queue to another process and through a second one back, written "
    "and read in full; half of the round trip."
)
SPINNING = f"{ONE_WAY} Both spin."
THROUGHPUT = "One process writes events into a queue, another reads every byte of them."
PYTHON = "A Python process appends to a ring; a native one reads every byte, settles and releases."
PAYLOAD_BYTES = 100
LARGE_BYTES = 1024


def _native(name: str, what: str, program: str, payload_bytes: int, **settings: Value) -> Scenario:
    return scenario(name, "certeus", what, built(program), payload_bytes=payload_bytes, **settings)


def _producer(name: str, what: str, payload_bytes: int = PAYLOAD_BYTES, **told: Value) -> Scenario:
    return produced(
        name,
        "certeus",
        f"{PYTHON} {what}",
        built("ring-consumer"),
        lambda: python("ring_producer"),
        payload_bytes=payload_bytes,
        **told,
    )


def _calls(name: str, what: str, **settings: Value) -> Scenario:
    def measure(context: Context) -> Measurement:
        told = {**settings, "timed": True}
        reader = built("ring-consumer")()
        read, output = run_pair(reader, python("ring_producer"), context, **told)
        calls = msgspec.json.decode(output, type=Measurement)
        return msgspec.structs.replace(calls, read_sum=read.read_sum)

    return Scenario(
        name=name,
        system="certeus",
        scope=Scope.INPROC,
        what=f"What one call of `append` takes in Python, {what}.",
        measure=measure,
        settings=settings,
    )


SCENARIOS = [
    _native("ring/one-way", SPINNING, "ring-one-way", PAYLOAD_BYTES),
    _native("ring/one-way-1k", SPINNING, "ring-one-way", LARGE_BYTES),
    _native(
        "ring/one-way-blocking",
        f"{ONE_WAY} Each sleeps until its doorbell rings.",
        "ring-one-way",
        PAYLOAD_BYTES,
        blocking=True,
    ),
    _native("ring/throughput", THROUGHPUT, "ring-throughput", PAYLOAD_BYTES),
    _native("ring/throughput-1k", THROUGHPUT, "ring-throughput", LARGE_BYTES),
    _producer("ring/throughput-python", "`append_many` of bytes.", call="append_many"),
    _producer(
        "ring/throughput-python-1k", "`append_many` of bytes.", LARGE_BYTES, call="append_many"
    ),
    _producer("ring/throughput-append", "`append` of bytes.", call="append"),
    _producer("ring/throughput-dict", "`append` of dicts.", call="append", data="dict"),
    _producer("ring/throughput-dicts", "`append_many` of dicts.", call="append_many", data="dict"),
    _calls("ring/append", "with bytes", payload_bytes=PAYLOAD_BYTES, call="append"),
    _calls(
        "ring/append-dict", "with a dict", payload_bytes=PAYLOAD_BYTES, call="append", data="dict"
    ),
]
