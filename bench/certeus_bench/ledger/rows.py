"""Until an event is a committed row, beside a bare COPY of the same rows on the same server.

Numerator: two Python producers append as fast as the log lets them, so that log and flusher work at
the same time and share the processors with them and with PostgreSQL; it ends with the last row.
Denominator: rows that arrived, encoded beforehand by ``COPY ... TO``, sent by one connection into
an empty ``CREATE TABLE twin (LIKE certeus.events INCLUDING ALL)``, nothing else running; the median
of three after one to warm up.
"""

import asyncio
import statistics
import threading
import time
from collections.abc import AsyncIterator
from functools import partial

import asyncpg
import msgspec

from certeus_bench.ledger import servers, system
from certeus_bench.ledger.durable import BATCH
from certeus_bench.peers import loads
from certeus_bench.peers.postgres_table import EVENT_BYTES
from certeus_bench.peers.producing import INTERVAL_SECONDS
from certeus_bench.peers.running import PeerError
from certeus_bench.results import Measurement, Scope
from certeus_bench.scenario import Context, Scenario

EVENTS = 8_000_000
WARMUP_EVENTS = 1_000_000
FLUSH_TIMEOUT_S = 900.0
COPIED_ROWS = 1_000_000
COPIES = 3
CHUNK_BYTES = 512 * 1024
TWIN = "certeus.twin"
SETTINGS = """
SELECT current_setting('server_version_num')::float AS server_version,
       (current_setting('fsync') = 'on')::int::float AS fsync,
       (current_setting('full_page_writes') = 'on')::int::float AS full_page_writes,
       (current_setting('synchronous_commit') = 'on')::int::float AS synchronous_commit,
       pg_size_bytes(current_setting('shared_buffers'))::float AS shared_buffers_bytes,
       pg_size_bytes(current_setting('max_wal_size'))::float AS max_wal_size_bytes,
       pg_size_bytes(current_setting('min_wal_size'))::float AS min_wal_size_bytes
"""
"""Of a server, as facts of what was measured with it; what is on is 1."""
COUNT = "SELECT count(*), sum(octet_length(data::text)) FROM certeus.events"


class Delivery:
    """The flusher: it brings on what producers only know to be durable (`loads.Carrier`)."""

    def __init__(self, certeus: system.System) -> None:
        self._daemon = certeus.daemon
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._begin_ns = 0
        self._before_seq = self._daemon.status().flushed_seq
        self._intervals: list[int] = []

    def begin(self, begin_ns: int) -> None:
        self._begin_ns = begin_ns
        self._thread.start()

    def finish(self, total: int) -> loads.Report:
        self._daemon.wait_flushed(FLUSH_TIMEOUT_S)
        last_ns = time.monotonic_ns()
        self._over.set()
        self._thread.join()
        if (arrived := self._daemon.status().flushed_seq - self._before_seq) != total:
            raise PeerError(f"{total:,} events were acknowledged, {arrived:,} were delivered")
        return loads.Report(
            operations=total,
            acknowledged=total,
            counted_from_ns=self._begin_ns,
            last_ns=last_ns,
            intervals=self._intervals,
            written_sum=0,
            cpu_seconds=0.0,
            times_ns=[],
            timer_ns=0,
        )

    def _watch(self) -> None:
        loads.wait_until(self._begin_ns)
        before = self._before_seq
        for number in range(1, 1_000_000):
            wanted_ns = self._begin_ns + round(number * INTERVAL_SECONDS * 1e9)
            if self._over.wait((wanted_ns - time.monotonic_ns()) / 1e9):
                break
            flushed = self._daemon.status().flushed_seq
            self._intervals.append(flushed - before)
            before = flushed


def append(
    certeus: system.System, context: Context, events: int, seed: int
) -> tuple[loads.Load, int]:
    """Events from two producers, until the last is a row; the load and how many it were."""
    each = -(-events // (loads.PRODUCERS * BATCH)) * BATCH
    at_once = msgspec.structs.replace(context, warmup_seconds=0.0)
    commands = [
        certeus.producer(
            number, *loads.arguments(at_once, EVENT_BYTES, number, BATCH), "--events", each
        )
        for number in range(seed, seed + loads.PRODUCERS)
    ]
    load = loads.offer(commands, at_once, certeus.cpu, Delivery(certeus))
    return load, each * loads.PRODUCERS


def throughput(context: Context, *, version: int) -> Measurement:
    """A fixed number of events, from the first append to the last row; all are counted by SQL."""
    with servers.certeus_on(version, context) as certeus:
        _, warmup = append(certeus, context, WARMUP_EVENTS, 0)
        load, events = append(certeus, context, EVENTS, loads.PRODUCERS)
        rows, row_bytes = asyncio.run(ask(certeus.daemon.dsn(), COUNT))
        facts = dict(asyncio.run(ask(certeus.daemon.dsn(), SETTINGS)))
        if (rows, row_bytes) != (warmup + events, (warmup + events) * EVENT_BYTES):
            raise PeerError(f"{warmup + events:,} events became {rows:,} rows of {row_bytes:,} B")
    measured = loads.measurement(load, context, EVENT_BYTES, 0, None)
    return msgspec.structs.replace(measured, facts={**measured.facts, **facts})


async def ask(dsn: str, query: str) -> asyncpg.Record:
    """The one row that answers a query."""
    connection = await asyncpg.connect(dsn)
    try:
        row = await connection.fetchrow(query)
        assert row is not None
        return row
    finally:
        await connection.close()


def bare_copy(context: Context, *, version: int) -> Measurement:
    """The denominator, on a server of its own that is like the other one."""
    with servers.certeus_on(version, context) as certeus:
        append(certeus, context, COPIED_ROWS, 0)
        measured = asyncio.run(copies(certeus.daemon.dsn(), context))
        facts = dict(asyncio.run(ask(certeus.daemon.dsn(), SETTINGS)))
    return msgspec.structs.replace(measured, facts={**measured.facts, **facts})


async def copies(dsn: str, context: Context) -> Measurement:
    """One COPY to warm up, then three; the median."""
    connection = await asyncpg.connect(dsn)
    try:
        chunks: list[bytes] = []

        async def keep(data: bytes) -> None:
            chunks.append(bytes(data))

        query = f"SELECT * FROM certeus.events ORDER BY seq LIMIT {COPIED_ROWS:d}"
        await connection.copy_from_query(query, output=keep, format="binary")
        stream = b"".join(chunks)
        await copy_once(connection, stream)
        begin = time.perf_counter()
        seconds = [await copy_once(connection, stream) for _ in range(COPIES)]
        lasted = time.perf_counter() - begin
    finally:
        await connection.close()
    return Measurement(
        operations=COPIED_ROWS,
        seconds=statistics.median(seconds),
        warmup_seconds=context.warmup_seconds,
        bytes_each=EVENT_BYTES,
        concurrency=1,
        facts={
            "stream_bytes": len(stream),
            "copies": COPIES,
            "fastest_seconds": min(seconds),
            "slowest_seconds": max(seconds),
            "all_seconds": lasted,
        },
    )


async def copy_once(connection: "asyncpg.Connection[asyncpg.Record]", stream: bytes) -> float:
    """Seconds of one COPY with its COMMIT, into a new table."""

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(stream), CHUNK_BYTES):
            yield stream[start : start + CHUNK_BYTES]

    await connection.execute(f"DROP TABLE IF EXISTS {TWIN}")
    await connection.execute(f"CREATE TABLE {TWIN} (LIKE certeus.events INCLUDING ALL)")
    begin = time.perf_counter()
    await connection.copy_to_table("twin", schema_name="certeus", source=pieces(), format="binary")
    return time.perf_counter() - begin


def _scenarios(version: int) -> list[Scenario]:
    whose = "the embedded PostgreSQL" if version == servers.EMBEDDED else "Debian's PostgreSQL"
    return [
        Scenario(
            name="floor/copy",
            system="floor",
            scope=Scope.POSTGRES,
            what=f"{COPIED_ROWS:,} rows that certeus delivered, encoded beforehand, by one binary"
            f" COPY into an empty table like certeus.events of {whose} {version}; nothing else"
            f" runs. The median of {COPIES}.",
            measure=partial(bare_copy, version=version),
            settings={"postgres": version},
        ),
        Scenario(
            name="postgres/throughput",
            system="certeus",
            scope=Scope.POSTGRES,
            what=f"{EVENTS:,} events of {EVENT_BYTES} B from {loads.PRODUCERS} Python processes by"
            f" append_many, from the first append to the last row in {whose} {version}.",
            measure=partial(throughput, version=version),
            settings={"postgres": version, "producers": loads.PRODUCERS},
        ),
    ]


SCENARIOS = [*_scenarios(servers.EMBEDDED), *_scenarios(servers.DEBIAN)]
