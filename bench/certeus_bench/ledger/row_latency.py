"""From an append until its row is visible, at a rate that is offered whatever happens.

One producer appends what is due at every millisecond; an event's time begins when it was due. This
process asks PostgreSQL again and again where the flusher's position is: an event's time ends when
the first answer that covers it has come, so the question itself is part of it. The log is empty at
first and has one producer, so the n-th event has the n-th number.
"""

import asyncio
import time

import asyncpg
import numpy as np

from certeus_bench import loops
from certeus_bench.ledger import system
from certeus_bench.ledger.durable import bounded
from certeus_bench.peers import loads, running
from certeus_bench.peers.postgres_table import EVENT_BYTES
from certeus_bench.peers.running import PeerError
from certeus_bench.results import Loop, Measurement, Scope
from certeus_bench.scenario import Context, Scenario

RATE = 50_000
LOOK_S = 0.0005
ARRIVED_TIMEOUT_S = 60.0
POSITION = "SELECT coalesce(max(seq), 0) FROM certeus.flush_position"


async def look(dsn: str, program: running.Program) -> tuple[list[int], list[int], loads.Report]:
    """When which position was seen (monotonic, ns), until all that was appended is there."""
    connection = await asyncpg.connect(dsn)
    loop = asyncio.get_running_loop()
    answer = loop.run_in_executor(None, program.answer, loads.Report)
    seen_ns: list[int] = []
    positions: list[int] = []
    try:
        statement = await connection.prepare(POSITION)
        deadline = None
        while True:
            position: int = await statement.fetchval()
            if not positions or position > positions[-1]:
                seen_ns.append(time.monotonic_ns())
                positions.append(position)
            if answer.done():
                if position >= (report := await answer).acknowledged:
                    return seen_ns, positions, report
                deadline = deadline or loop.time() + ARRIVED_TIMEOUT_S
                if loop.time() > deadline:
                    raise PeerError(f"{report.acknowledged:,} events, {position:,} rows")
            await asyncio.sleep(LOOK_S)
    finally:
        await connection.close()


def measure(context: Context) -> Measurement:
    """All events that were due after the warm-up."""
    context = bounded(context)
    with system.started(context) as certeus:
        dsn = certeus.daemon.dsn()
        arguments = loads.arguments(context, EVENT_BYTES, 0, 1)
        with running.programs([certeus.producer(0, *arguments, "--rate", RATE)]) as (program,):
            begin_ns = running.begin([program])
            cpu = certeus.cpu()
            seen_ns, positions, report = asyncio.run(look(dsn, program))
            cpu = certeus.cpu() - cpu
    first = round(context.warmup_seconds * RATE) + 1
    numbers = np.arange(first, report.acknowledged + 1, dtype=np.int64)
    due_ns = begin_ns + np.round(numbers * (1e9 / RATE)).astype(np.int64)
    index = np.searchsorted(np.array(positions, dtype=np.int64), numbers)
    visible_ns = np.array(seen_ns, dtype=np.int64)[index]
    counted_from_ns = begin_ns + round(context.warmup_seconds * 1e9)
    return Measurement(
        operations=len(numbers),
        seconds=(int(visible_ns[-1]) - counted_from_ns) / 1e9,
        warmup_seconds=context.warmup_seconds,
        bytes_each=EVENT_BYTES,
        loop=Loop.OPEN,
        histogram=loops.histogram_of(visible_ns - due_ns),
        timer_ns=report.timer_ns,
        intervals=loops.intervals_of(visible_ns - counted_from_ns),
        interval_seconds=loops.INTERVAL_SECONDS,
        cpu_seconds=cpu,
    )


SCENARIOS = [
    Scenario(
        name="postgres/row-latency",
        system="certeus",
        scope=Scope.POSTGRES,
        what=f"{RATE:,} events of {EVENT_BYTES} B a second are offered by a Python process; from"
        " when each was due until its row is seen by another connection.",
        measure=measure,
        settings={"offered": RATE, "producers": 1},
    )
]
