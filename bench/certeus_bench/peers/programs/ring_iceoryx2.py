"""Writes events into an iceoryx2 service from Python, each copied into a loaned sample.

python -m certeus_bench.peers.programs.ring_iceoryx2 '{"socket": ..., "payload_bytes": 100, ...}'

The reader is native (`bench/native-peers`), as it is for producers of certeus. It says when it has
made the service, and sees by the socket's end that this writer is gone.
"""

import itertools
import json
import os
import socket
import sys
import time
from ctypes import c_uint8, memmove
from importlib import import_module
from pathlib import Path
from typing import Protocol, Self

from certeus_bench.rows import make_rows
from certeus_bench.word_sum import total_sum, word_sum

BATCH = 512
"""Events between two looks at the clock."""


class Sample(Protocol):
    """Memory of the service, lent to this process."""

    payload_ptr: int

    def assume_init(self) -> Self:
        """All of it is written."""
        ...

    def send(self) -> int:
        """Hand it to the readers; how many those are."""
        ...


class Publisher(Protocol):
    """The writing end."""

    def loan_slice_uninit(self, count: int) -> Sample:
        """So many bytes."""
        ...


def open_publisher(home: Path, payload_bytes: int) -> Publisher:
    """The writing end of the service that the reader has made, found below the run's home."""
    iceoryx2 = import_module("iceoryx2")
    iceoryx2.set_log_level(iceoryx2.LogLevel.Error)
    config = iceoryx2.config.default()
    config.global_cfg.prefix = iceoryx2.FileName.new(f"{home.name}-")
    config.global_cfg.root_path = iceoryx2.Path.new(str(home))
    node = (
        iceoryx2.NodeBuilder.new()
        .config(config)
        .signal_handling_mode(iceoryx2.SignalHandlingMode.Disabled)
        .create(iceoryx2.ServiceType.Ipc)
    )
    builder = node.service_builder(iceoryx2.ServiceName.new("there"))
    service = builder.publish_subscribe(iceoryx2.Slice[c_uint8]).open()
    publisher: Publisher = (
        service.publisher_builder()
        .initial_max_slice_len(payload_bytes)
        .backpressure_strategy(iceoryx2.BackpressureStrategy.RetryUntilDelivered)
        .create()
    )
    return publisher


def main() -> None:
    """Write until the time is over, then tell how much that was."""
    settings = json.loads(sys.argv[1])
    rows = make_rows(settings["payload_bytes"], seed=0)
    os.sched_setaffinity(0, {settings["cpu"]})
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as reader:
        reader.connect(settings["socket"])
        reader.recv(1)
        home = Path(settings["socket"]).parent
        loan = open_publisher(home, settings["payload_bytes"]).loan_slice_uninit
        batches = itertools.cycle(
            [rows[begin : begin + BATCH] for begin in range(0, len(rows), BATCH)]
        )
        count, until = 0, time.monotonic() + settings["seconds"]
        while time.monotonic() < until:
            for row in next(batches):
                sample = loan(len(row))
                memmove(sample.payload_ptr, row, len(row))
                sample.assume_init().send()
            count += BATCH
        written_sum = total_sum([word_sum(row) for row in rows], count)
        json.dump({"events": count, "written_sum": written_sum}, sys.stdout)
        # The service goes with its last user: the reader leaves first.
        reader.shutdown(socket.SHUT_WR)
        reader.recv(1)


if __name__ == "__main__":
    main()
