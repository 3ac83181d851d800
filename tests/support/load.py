"""One producer process of the crash tests: numbered events of mixed size, some of them bad.

Run as ``python -m support.load SOCKET INDEX COUNT SEED PROGRESS_FILE``; prints one JSON line at the
end. Every event carries its own number, so that the rows tell what arrived, once, and in order.
"""

import json
import mmap
import random
import struct
import sys
from pathlib import Path

import certeus

CHUNK = 200
PROGRESS = struct.Struct("<QQQ")


def size_of(rng: random.Random) -> int:
    """Bytes of one event: mostly small, up to 16 KiB."""
    return min(16384, max(64, int(64 * 2 ** (8 * rng.random() ** 4))))


def body(producer: int, number: int, bad: bool, bytes_wanted: int) -> bytes:
    """The data of one event; a bad one is not JSON."""
    head = b'{"p":%d,"n":%d,"pad":"' % (producer, number)
    end = b'"' if bad else b'"}'
    return head + b"x" * (bytes_wanted - len(head) - len(end)) + end


def is_bad(number: int) -> bool:
    return number % 997 == 0


def main(socket: str, index: int, count: int, seed: int, progress: Path) -> None:
    rng = random.Random(seed * 1000 + index)
    told: list[int] = []
    with (
        progress.open("r+b") as file,
        mmap.mmap(file.fileno(), 0) as shared,
        certeus.connect(socket, source=f"crash/{index}", timeout=30.0) as producer,
    ):

        def note(done: bool) -> None:
            now = producer.statistics()
            at = index * PROGRESS.size
            PROGRESS.pack_into(shared, at, now.appended, now.settled, int(done))

        last = 0
        for first in range(1, count + 1, CHUNK):
            numbers = range(first, min(first + CHUNK, count + 1))
            rows = [body(index, n, is_bad(n), size_of(rng)) for n in numbers]
            last = producer.append_many("crash", rows)
            note(False)
        while True:
            try:
                producer.wait_durable(last, timeout=300.0)
                break
            except certeus.RejectedError as error:
                told += [rejection.ticket for rejection in error.rejections]
        note(True)
        statistics = producer.statistics()
    print(
        json.dumps({
            "appended": statistics.appended, "settled": statistics.settled,
            "accepted": statistics.accepted, "duplicates": statistics.duplicates,
            "rejected": statistics.rejected, "resent": statistics.resent, "told": told,
        })
    )  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
