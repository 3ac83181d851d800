"""COPY from the application: what is written today by who needs events in PostgreSQL fast.

An event counts after the COMMIT of its COPY. Tried were transactions of 2000 to 50,000 rows, and
psycopg's text format too, which costs its process more than twice the time of binary.
"""

import sys
from collections.abc import Callable
from importlib.metadata import version

from certeus_bench.peers import installed, loads, postgres_table, running
from certeus_bench.results import Measurement, Scope
from certeus_bench.scenario import Context, Scenario

PROGRAMS = "certeus_bench.peers.programs"
ROWS = 10_000


def measure(context: Context, program: list[str]) -> Measurement:
    """Two producers, each with its connection, until the last COMMIT; all rows are read back."""
    with postgres_table.made(context.home) as table:
        commands = [
            [
                *program, table.dsn, postgres_table.SCHEMA, postgres_table.TABLE,
                *loads.arguments(context, postgres_table.EVENT_BYTES, seed, ROWS),
            ]
            for seed in range(loads.PRODUCERS)
        ]  # fmt: skip
        load = loads.offer(commands, context, running.meter(table.servers))
        _, read_sum = table.read_back()
    size, concurrency = postgres_table.EVENT_BYTES, loads.PRODUCERS * ROWS
    return loads.measurement(load, context, size, concurrency, read_sum)


def by_asyncpg(context: Context) -> Measurement:
    """By the asyncpg that certeus itself uses."""
    return measure(context, [sys.executable, "-m", f"{PROGRAMS}.copy_asyncpg"])


def by_psycopg(context: Context) -> Measurement:
    """By psycopg, its C part included."""
    program = [installed.python(), "-m", f"{PROGRAMS}.copy_psycopg", "--format", "binary"]
    return measure(context, program)


def scenario(system: str, how: str, throughput: Callable[[Context], Measurement]) -> Scenario:
    """One client library."""
    return Scenario(
        name="postgres/throughput",
        system=system,
        scope=Scope.POSTGRES,
        what=f"{loads.PRODUCERS} processes put events of {postgres_table.EVENT_BYTES} B into a"
        f" table like certeus.events by {how}, until the last row is committed. What a process"
        " has not committed when it dies is lost.",
        measure=throughput,
        settings={"producers": loads.PRODUCERS, "rows in a transaction": ROWS},
    )


SCENARIOS = [
    scenario(f"asyncpg {version('asyncpg')}", "asyncpg's copy_records_to_table", by_asyncpg),
    scenario(f"psycopg{installed.version('psycopg')}", "psycopg's binary COPY", by_psycopg),
]
