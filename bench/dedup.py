"""What the dedup window costs: bytes a key in memory and on disk, and resending against appending.

Method: a log writer, a worker's kernel and one client ring in one process, over a log on a disk
that is given. N events with an id each (36 bytes, 64 bytes of data) are appended and settled; then
the last half million of them again, which are all duplicates. RSS is read before the first and
behind the last append, once with ids and once without, in a fresh process each: the difference is
the window's, divided by N.
A second start on the same directory measures what a restart takes.

    .venv/bin/python bench/dedup.py [--dir D] [N ...]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

DATA = b'{"n":"' + b"x" * 56 + b'"}'
RETRIES = 500_000
"""Events that are sent again; enough to see their rate."""


def rss() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def one(folder: Path, count: int, *, ids: bool) -> dict[str, float]:
    from support import log_machine
    from support.log_machine import Client, Ledger

    options = log_machine.OPTIONS
    options["segment_bytes"], options["group_bytes_max"] = 64 << 20, 1 << 20
    options["group_records_max"], options["dedup_keys"] = 8192, count
    ledger = Ledger(folder)
    client = Client(0, os.urandom(16))
    ledger.connect(client)
    before = rss()

    def send(numbers: range) -> float:
        begun = time.monotonic()
        assert client.ring is not None
        for number in numbers:
            key = f"{number:036d}" if ids else None
            while not client.ring.append("t", DATA, False, key):
                ledger.step()
                client.ring.drain()
        while client.ring.drain()[0] < client.ring.last_ticket:
            ledger.step()
            assert ledger.writer is not None
            ledger.writer.run(1)
        return len(numbers) / (time.monotonic() - begun)

    appended = send(range(count))
    grown = rss() - before
    again = send(range(count - min(count, RETRIES), count))
    ledger.stop_log()
    sidecars = sum(path.stat().st_size for path in ledger.log_dir.glob("*.keys"))
    begun = time.monotonic()
    ledger.open_log()
    started = time.monotonic() - begun
    ledger.close()
    return {"rss_bytes": grown, "sidecar_bytes": sidecars, "appended_a_s": round(appended),
            "again_a_s": round(again), "start_s": round(started, 3)}  # fmt: skip


def measured(where: str, count: int, *, ids: bool) -> dict[str, float]:
    with tempfile.TemporaryDirectory(dir=where) as folder:
        program = [sys.executable, __file__, "--one", folder, str(count), *(["--ids"] * ids)]
        told = subprocess.run(program, check=True, stdout=subprocess.PIPE).stdout
        found: dict[str, float] = json.loads(told)
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the dedup window.")
    parser.add_argument("--dir", default=tempfile.gettempdir())
    parser.add_argument("--one", type=Path)
    parser.add_argument("--ids", action="store_true")
    parser.add_argument("counts", nargs="*", type=int, default=[1_000_000, 2_000_000, 4_000_000])
    given = parser.parse_args()
    if given.one:
        sys.stdout.write(json.dumps(one(given.one, given.counts[0], ids=given.ids)) + "\n")
        return
    for count in given.counts:
        with_ids = measured(given.dir, count, ids=True)
        without = measured(given.dir, count, ids=False)
        a_key = (with_ids["rss_bytes"] - without["rss_bytes"]) / count
        sys.stdout.write(
            f"{count:>9,} ids: {a_key:5.1f} B a key in memory,"
            f" {with_ids['sidecar_bytes'] / count:5.1f} B a key on disk,"
            f" appended {with_ids['appended_a_s']:,}/s, again {with_ids['again_a_s']:,}/s"
            f" (without ids {without['appended_a_s']:,}/s), restart {with_ids['start_s']} s\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
