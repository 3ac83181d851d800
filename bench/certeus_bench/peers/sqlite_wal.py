"""SQLite, write-ahead log, ``synchronous=FULL``: COMMIT returns after the sync of the log.

As strace shows it: each COMMIT writes its pages to the log and calls ``fdatasync``. Two processes
share the one lock for writing by SQLite's own waiting (``busy_timeout``). Tried were transactions
of 64 to 131,072 rows: hardly better above 8192, best at 32,768. Pages of 16 and 64 KiB and
checkpoints at 4000 and 10,000 pages differed from the defaults by less than a tenth, so these are
the defaults.
"""

import sqlite3
import sys
from collections.abc import Generator
from contextlib import closing, contextmanager

from certeus_bench.peers import durable_log
from certeus_bench.scenario import Context

TRANSACTION_ROWS = 32_768
TABLE = "CREATE TABLE events (seq INTEGER PRIMARY KEY, data BLOB NOT NULL)"
PROGRAM = "certeus_bench.peers.programs.sqlite_log"


@contextmanager
def serve(context: Context) -> Generator[durable_log.Target, None, None]:
    """An empty table; SQLite is a library, here that of the interpreter which runs this."""
    path = context.home / "events.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(TABLE)
    yield durable_log.Target([sys.executable, "-m", PROGRAM, str(path)], [])


SCENARIOS = durable_log.scenarios(
    f"sqlite {sqlite3.sqlite_version}",
    serve,
    batch=TRANSACTION_ROWS,
    batch_is="rows in a transaction",
    how="SQLite in WAL mode with synchronous=FULL",
    settings={"journal_mode": "WAL", "synchronous": "FULL"},
)
