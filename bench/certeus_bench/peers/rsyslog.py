"""rsyslog with ompgsql: one INSERT an event, many in a transaction, from its queue in memory.

Tried were one to four workers, each with its connection, batches of 256 to 8192, and 16 to 256
lines to a write: two workers are best on two processors, the rest matters little. A full queue
makes the socket wait, and nothing is dropped: all rows are counted in the end, and their contents
summed up.
"""

import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psutil

from certeus_bench.peers import installed, loads, postgres_rows, postgres_table, producing, running
from certeus_bench.results import Measurement, Scope
from certeus_bench.scenario import Context, Scenario

PROGRAM = "certeus_bench.peers.programs.syslog_lines"
LINES = 64
WORKERS = 2
BATCH = 2048
QUEUE = 20_000
ARRIVED_POLL_S = 0.05
ARRIVED_TIMEOUT_S = 120.0
COLUMNS = ", ".join(postgres_rows.COLUMNS)
BY_INTERVAL = f"""
SELECT floor(extract(epoch FROM recorded_at - to_timestamp($1)) / $2)::int AS number, count(*),
    extract(epoch FROM max(recorded_at) - to_timestamp($1))::float8
FROM {postgres_table.NAME} WHERE recorded_at >= to_timestamp($1) GROUP BY number
"""


def configuration(home: Path, socket: str, dsn: str) -> str:
    """One input, one queue, one action; a full queue holds its senders up and drops nothing."""
    values = (
        f"{postgres_rows.LOG_ID}, %procid%, clock_timestamp(), '{postgres_rows.TENANT}',"
        f" '%app-name%', '{postgres_rows.TYPE}', '{postgres_rows.VERDICT}', %msgid%, %procid%,"
        " '%msg%'"
    )
    insert = f"insert into {postgres_table.NAME} ({COLUMNS}) values ({values})"
    return f"""\
global(workDirectory="{home}" maxMessageSize="64k")
module(load="imptcp")
module(load="ompgsql")
template(name="row" type="string" option.stdsql="on" string="{insert}")
input(type="imptcp" path="{socket}" ruleset="postgres")
ruleset(
    name="postgres" queue.type="FixedArray" queue.size="{QUEUE}"
    queue.timeoutEnqueue="{ARRIVED_TIMEOUT_S * 1000:.0f}"
    queue.dequeueBatchSize="{BATCH}" queue.workerThreads="{WORKERS}"
    queue.workerThreadMinimumMessages="{BATCH}"
) {{
    action(type="ompgsql" conninfo="{dsn}" template="row")
}}
"""


class Rows:
    """Tells by the rows themselves when they arrived: the server put its clock into each."""

    def __init__(self, table: postgres_table.Table, context: Context) -> None:
        self._table = table
        self._context = context
        self._counted_from_ns = 0

    def begin(self, begin_ns: int) -> None:
        self._counted_from_ns = begin_ns + round(self._context.warmup_seconds * 1e9)

    def finish(self, total: int) -> loads.Report:
        deadline = time.monotonic() + ARRIVED_TIMEOUT_S
        while (count := self._table.row_count()) < total:
            if time.monotonic() > deadline:
                raise running.PeerError(f"{count} of {total} events arrived, the others did not")
            time.sleep(ARRIVED_POLL_S)
        counted_from = time.time() - (time.monotonic_ns() - self._counted_from_ns) / 1e9
        rows = self._table.run(BY_INTERVAL, counted_from, producing.INTERVAL_SECONDS)
        intervals = [0] * (1 + max((number for number, _, _ in rows), default=0))
        for number, count, _ in rows:
            intervals[number] = count
        last = max((newest for _, _, newest in rows), default=0.0)
        return loads.Report(
            operations=sum(count for _, count, _ in rows),
            acknowledged=total,
            counted_from_ns=self._counted_from_ns,
            last_ns=self._counted_from_ns + round(last * 1e9),
            intervals=intervals,
            written_sum=0,
            cpu_seconds=0.0,
            times_ns=[],
            timer_ns=0,
        )


def command() -> list[str]:
    """A daemon of one's own: in the foreground, without a file for its process id."""
    modules = installed.libraries() / "rsyslog"
    own = [f"-M{modules}"] if modules.is_dir() else []
    return [installed.program("rsyslogd"), "-n", "-iNONE", *own]


@contextmanager
def started(
    home: Path, daemon: list[str], dsn: str
) -> Generator[tuple[str, psutil.Process], None, None]:
    """The daemon for the length of a block, and the socket that it reads."""
    with tempfile.TemporaryDirectory(prefix="certeus-rsyslog-") as place:
        socket = Path(place, "lines.sock")
        path = home / "rsyslog.conf"
        path.write_text(configuration(home, str(socket), dsn))
        daemon = [*daemon, "-f", str(path)]
        with running.server(daemon, home / "rsyslog.log", socket.exists) as process:
            yield str(socket), process


def throughput(context: Context) -> Measurement:
    """Two producers, until the last row is committed; all rows are read back."""
    size = postgres_table.EVENT_BYTES
    daemon = command()
    files = context.home / "rsyslog"
    files.mkdir()
    with (
        postgres_table.made(context.home) as table,
        started(files, daemon, table.dsn) as (socket, process),
    ):
        commands = [
            [
                sys.executable, "-m", PROGRAM, socket,
                *loads.arguments(context, size, seed, LINES),
            ]
            for seed in range(loads.PRODUCERS)
        ]  # fmt: skip
        spent = running.meter([process, *table.servers])
        load = loads.offer(commands, context, spent, Rows(table, context))
        _, read_sum = table.read_back()
    return loads.measurement(load, context, size, 0, read_sum)


SCENARIOS = [
    Scenario(
        name="postgres/throughput",
        system=f"rsyslog{installed.version('rsyslogd')}",
        scope=Scope.POSTGRES,
        what=f"{loads.PRODUCERS} processes write events of {postgres_table.EVENT_BYTES} B as RFC"
        " 5424 lines to a socket of rsyslog, which INSERTs them by ompgsql into a table like"
        " certeus.events, until the last is committed. Its queue is in memory, and nobody is told"
        " what is durable.",
        measure=throughput,
        settings={
            "producers": loads.PRODUCERS,
            "queue.type": "FixedArray",
            "queue.size": QUEUE,
            "queue.dequeueBatchSize": BATCH,
            "queue.workerThreads": WORKERS,
        },
    )
]
