"""Brings a Redis stream into a table: reads as one of a consumer group, COPYs, then acknowledges.

    python -m certeus_bench.peers.programs.redis_to_postgres SOCKET STREAM DSN SCHEMA TABLE

After a crash what was committed but not acknowledged comes again: at least once, not exactly once.
Ends when it has committed as many rows as its standard input says, in a second line.
"""

import asyncio
import json
import select
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

from certeus_bench.peers import postgres_rows, producing

GROUP = "copy"
CONSUMER = "one"
BLOCK_MS = 20
Entries = list[tuple[bytes, dict[bytes, bytes]]]


def main() -> None:
    """Read, COPY, XACK, in the stream's order."""
    parser = producing.parser(__doc__)
    for name in ("socket", "stream", "dsn", "schema", "table"):
        parser.add_argument(name)
    options = parser.parse_args()
    client = import_module("redis").Redis(unix_socket_path=options.socket)
    client.xgroup_create(options.stream, GROUP, id="0", mkstream=True)
    loop = import_module("uvloop").new_event_loop()
    asyncio.set_event_loop(loop)
    connection = loop.run_until_complete(import_module("asyncpg").connect(options.dsn))

    def read() -> list[tuple[bytes, Entries]]:
        answer: list[tuple[bytes, Entries]] = client.xreadgroup(
            GROUP, CONSUMER, {options.stream: ">"}, count=options.batch, block=BLOCK_MS
        )
        return answer

    tally = producing.begin(options)
    reader = ThreadPoolExecutor(1)
    total: int | None = None
    begin_ns = time.monotonic_ns()
    reading = reader.submit(read)
    while tally.acknowledged != total:
        answer = reading.result()
        reading = reader.submit(read)  # the next batch, while this one is copied
        for _, entries in answer:
            rows = [
                postgres_rows.make_row(tally.acknowledged + number, fields[b"d"], 0, "bench")
                for number, (_, fields) in enumerate(entries)
            ]
            copying = connection.copy_records_to_table(
                options.table,
                schema_name=options.schema,
                columns=postgres_rows.COLUMNS,
                records=rows,
            )
            loop.run_until_complete(copying)
            client.xack(options.stream, GROUP, *(entry for entry, _ in entries))
            tally.add(len(rows), begin_ns)
            begin_ns = time.monotonic_ns()
        if total is None and select.select([sys.stdin], [], [], 0)[0]:
            total = int(sys.stdin.readline())
    reader.shutdown()
    json.dump(tally.report(written_sum=0), sys.stdout)
    loop.run_until_complete(connection.close())


if __name__ == "__main__":
    main()
