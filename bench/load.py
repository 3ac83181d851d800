"""One producer process that offers encoded JSON.

    python bench/load.py SOCKET SOURCE --bytes 150 --seconds 30 [--hold FILE]

As fast as the ring takes them; with a file, it pauses while the first byte of that is ``1``. Rows
are made before the clock starts: what is measured is certeus, not the making of JSON. Waits for one
line on stdin, so that all processes begin together; prints one JSON object when all is durable.
"""

import argparse
import json
import mmap
import sys
import time
from pathlib import Path

import certeus
from certeus_bench.rows import ROWS, make_rows

BATCH = 512
SETTLE_TIMEOUT_S = 120.0
HELD = ord("1")
HOLD_POLL_S = 0.001


def map_hold(path: Path) -> mmap.mmap:
    """Map the file by whose first byte the benchmark holds its producers back."""
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), 1)


def is_held(hold: mmap.mmap | None) -> bool:
    """Whether PostgreSQL is far enough behind."""
    return hold is not None and hold[0] == HELD


def main() -> None:
    """Offer batches until the time is over, then wait until the last is durable."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("socket")
    parser.add_argument("source")
    parser.add_argument("--bytes", type=int, default=150)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--hold", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = make_rows(options.bytes, options.seed)
    hold = None if options.hold is None else map_hold(options.hold)
    batches = [rows[start : start + BATCH] for start in range(0, ROWS, BATCH)]
    with certeus.connect(options.socket, source=options.source) as producer:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        begin = time.perf_counter()
        count = ticket = 0
        while time.perf_counter() - begin < options.seconds:
            ticket = producer.append_many("reading", batches[count % len(batches)])
            count += 1
            while is_held(hold) and time.perf_counter() - begin < options.seconds:
                time.sleep(HOLD_POLL_S)
        settled_in_time = producer.statistics().settled
        producer.wait_durable(ticket, timeout=SETTLE_TIMEOUT_S)
        seconds = time.perf_counter() - begin
        accepted = producer.statistics().accepted
    answer = {"accepted": accepted, "settled_in_time": settled_in_time, "seconds": seconds}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
