"""One producer that appends single events and waits for each, until its stdin is closed.

    python bench/probe.py SOCKET SOURCE --interval-ms 5

Prints one JSON list of nanoseconds, from before ``append`` to after ``wait_durable``. A process of
its own, so that no other thread's interpreter lock is measured.
"""

import argparse
import json
import select
import sys
import time

import certeus

EVENT = b'{"probe":true,"text":"how long until this very event is on the disk?"}'
TIMEOUT_S = 30.0


def measure(producer: certeus.Producer) -> int:
    """Nanoseconds from the call until the event is durable."""
    begin = time.perf_counter_ns()
    ticket = producer.append("probe", EVENT)
    producer.wait_durable(ticket, timeout=TIMEOUT_S)
    return time.perf_counter_ns() - begin


def main() -> None:
    """Measure until told to stop, then print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("socket")
    parser.add_argument("source")
    parser.add_argument("--interval-ms", type=float, default=5.0)
    options = parser.parse_args()
    latencies: list[int] = []
    with certeus.connect(options.socket, source=options.source) as producer:
        while not select.select([sys.stdin], [], [], options.interval_ms / 1000)[0]:
            latencies.append(measure(producer))
    json.dump(latencies, sys.stdout)


if __name__ == "__main__":
    main()
