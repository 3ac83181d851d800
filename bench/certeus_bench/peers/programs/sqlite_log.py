"""Inserts into one SQLite table, a transaction at a time, each synced; or reads it all.

python -m certeus_bench.peers.programs.sqlite_log FILE --batch 2000
"""

import sqlite3
from collections.abc import Iterator

from certeus_bench.peers import producing

BUSY_TIMEOUT_S = 60.0
INSERT = "INSERT INTO events (data) VALUES (?)"


def connect(path: str) -> sqlite3.Connection:
    """A connection whose COMMIT returns after the sync of the write-ahead log."""
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def main() -> None:
    """One writer at a time: IMMEDIATE takes the lock before there is work to lose."""
    parser = producing.parser(__doc__)
    parser.add_argument("file")
    options = parser.parse_args()
    connection = connect(options.file)

    def send(batch: list[tuple[bytes]]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(INSERT, batch)
        connection.execute("COMMIT")

    def payloads() -> Iterator[bytes]:
        for (data,) in connection.execute("SELECT data FROM events ORDER BY seq"):
            yield data

    if options.read:
        producing.read_back(payloads())
    else:
        producing.produce(options, lambda _, row: (row,), send)
    connection.close()


if __name__ == "__main__":
    main()
