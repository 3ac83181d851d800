"""Redis Streams on the way to PostgreSQL: durable at XADD, then COPY by a consumer of its group.

Tried were batches of 2000 to 20,000 rows and pipelines of 512 to 8192: equal from 5000 rows. The
consumer reads the next batch while one is copied, which is faster by half than one after the
other. Producers are not held back: what waits in Redis when they end is part of the time.
"""

from certeus_bench.peers import installed, loads, postgres_table, redis_streams, running
from certeus_bench.results import Measurement, Scope
from certeus_bench.scenario import Context, Scenario

CONSUMER = "certeus_bench.peers.programs.redis_to_postgres"
PIPELINE = 2048
ROWS = 10_000


class Consumer:
    """The process that brings the stream into the table."""

    def __init__(self, program: running.Program) -> None:
        self._program = program

    def begin(self, begin_ns: int) -> None:
        self._program.tell(begin_ns)

    def finish(self, total: int) -> loads.Report:
        self._program.tell(total)
        return self._program.answer(loads.Report)


def throughput(context: Context) -> Measurement:
    """Two producers and one consumer, until the last row is committed; all rows are read back."""
    python = installed.python()
    size = postgres_table.EVENT_BYTES
    files = context.home / "redis"
    files.mkdir()
    with (
        redis_streams.started(files) as redis,
        postgres_table.made(context.home) as table,
    ):
        stream = [redis.socket, redis_streams.STREAM]
        consumer = [
            python, "-m", CONSUMER, *stream, table.dsn, postgres_table.SCHEMA,
            postgres_table.TABLE, *loads.arguments(context, size, 0, ROWS),
        ]  # fmt: skip
        producers = [
            [
                python, "-m", redis_streams.PROGRAM, *stream,
                *loads.arguments(context, size, seed, PIPELINE),
            ]
            for seed in range(loads.PRODUCERS)
        ]  # fmt: skip
        with running.programs([consumer]) as (program,):
            spent = running.meter([redis.process, *table.servers])
            load = loads.offer(producers, context, spent, Consumer(program))
        _, read_sum = table.read_back()
    return loads.measurement(load, context, size, 0, read_sum)


SCENARIOS = [
    Scenario(
        name="postgres/throughput",
        system=f"redis-streams{installed.version('redis-server')} and a COPY consumer",
        scope=Scope.POSTGRES,
        what=f"{loads.PRODUCERS} processes XADD events of {postgres_table.EVENT_BYTES} B to Redis"
        " (appendfsync always); one of a consumer group COPYs them by asyncpg into a table like"
        " certeus.events and acknowledges after COMMIT: at least once, in order.",
        measure=throughput,
        settings={
            **redis_streams.SETTINGS,
            "producers": loads.PRODUCERS,
            "pipeline": PIPELINE,
            "rows in a transaction": ROWS,
        },
    )
]
