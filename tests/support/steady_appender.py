"""Appends one event after the other until a line comes in, and connects anew again and again.

By the interpreter of an installed certeus. Its argument is the source of its events; those of its
new connections have it with `-new`. Both are numbered in `n`, from 0. A line of JSON each round
says how many are acknowledged; that an append or a connect fails ends it with a traceback.
"""

import json
import select
import sys
import time

import certeus

ROUND = 20
PAUSE_S = 0.001
TIMEOUT_S = 60.0


def main() -> None:
    """Go on until there is something to read."""
    source = sys.argv[1]
    settled = connects = 0
    slowest_s = 0.0
    with certeus.connect(source=source) as producer:
        while not select.select([sys.stdin], [], [], 0)[0]:
            for _ in range(ROUND):
                begun = time.monotonic()
                ticket = producer.append("t", {"n": settled})
                producer.wait_durable(ticket, timeout=TIMEOUT_S)
                slowest_s = max(slowest_s, time.monotonic() - begun)
                settled += 1
                time.sleep(PAUSE_S)
            with certeus.connect(source=f"{source}-new") as fresh:
                fresh.append("t", {"n": connects})
            connects += 1
            told = {"settled": settled, "connects": connects, "slowest_s": slowest_s}
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
