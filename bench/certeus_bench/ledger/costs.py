"""What certeus takes of the machine: memory, processor time, and how that is divided.

Processor time is the scheduler's, of all threads of all processes of certeusd. PostgreSQL's and the
producers' own is no part of it; among the stages it is told beside them.
"""

import time
from functools import partial

import certeus
from certeus_bench.ledger import rows, servers, system
from certeus_bench.ledger.durable import BATCH, throughput
from certeus_bench.peers import loads
from certeus_bench.peers.durable_log import EVENT_BYTES
from certeus_bench.peers.postgres_table import EVENT_BYTES as ROW_BYTES
from certeus_bench.results import Measurement, Scope
from certeus_bench.rows import make_rows
from certeus_bench.scenario import Context, Scenario

DEDUP_KEYS = 2_000_000
"""The default of ``dedup.keys``: so many ids fill the window."""
WAITING_EVENTS = 1_000_000
SETTLE_TIMEOUT_S = 300.0
SETTLING_S = 5.0
IDLE_SECONDS_MIN = 10.0
STAGE_EVENTS = 4_000_000
STAGES = {
    "append": ("producers", "Python's `append_many` of bytes into the ring"),
    "ingest": ("worker", "reading the ring, every check, into the log writer's ring"),
    "commit": ("log", "the log writer and its helper: groups, hashes, write and sync"),
    "deliver": ("flush", "the flusher: reading the log, encoding COPY, sending it"),
    "postgres": ("postgres", "PostgreSQL's own processes"),
    "supervise": ("supervisor", "the supervisor"),
}


def memory(context: Context) -> Measurement:
    """PSS of certeusd, without PostgreSQL and producers, when it holds as much as it may."""
    texts = make_rows(EVENT_BYTES, 0)
    batches = [texts[at : at + BATCH] for at in range(0, len(texts), BATCH)]
    begin = time.perf_counter()
    with (
        system.started(context) as ours,
        certeus.connect(ours.daemon.socket, source="bench") as producer,
    ):
        last = appended = 0
        while appended < DEDUP_KEYS:
            batch = batches[appended // BATCH % len(batches)]
            events = [
                certeus.Event(text, id=f"{appended + at:036d}") for at, text in enumerate(batch)
            ]
            last = producer.append_many("reading", events)
            appended += len(events)
        producer.wait_durable(last, timeout=SETTLE_TIMEOUT_S)
        ours.daemon.wait_flushed(SETTLE_TIMEOUT_S)
        with ours.flusher_paused():
            while appended < DEDUP_KEYS + WAITING_EVENTS:
                batch = batches[appended // BATCH % len(batches)]
                last = producer.append_many("reading", batch)
                appended += len(batch)
            producer.wait_durable(last, timeout=SETTLE_TIMEOUT_S)
            sizes = ours.daemon.pss_bytes()
    of_postgres = sizes.pop(system.POSTGRES, 0)
    parts = {f"{kind}_bytes": float(size) for kind, size in sizes.items()}
    return Measurement(
        operations=appended,
        seconds=time.perf_counter() - begin,
        warmup_seconds=context.warmup_seconds,
        bytes_each=EVENT_BYTES,
        facts={**parts, "pss_bytes": float(sum(sizes.values())), "postgres_bytes": of_postgres},
    )


def idle(context: Context) -> Measurement:
    """Processor time of a daemon that nobody uses, with a producer that is connected."""
    with (
        system.started(context) as ours,
        certeus.connect(ours.daemon.socket, source="bench") as producer,
    ):
        producer.wait_durable(producer.append("reading", make_rows(EVENT_BYTES, 0)[0]))
        ours.daemon.wait_flushed(SETTLE_TIMEOUT_S)
        time.sleep(max(context.warmup_seconds, SETTLING_S))
        begin, before = time.perf_counter(), ours.cpu_ns()
        time.sleep(max(context.seconds, IDLE_SECONDS_MIN))
        seconds, after = time.perf_counter() - begin, ours.cpu_ns()
    spent = {kind: (after[kind] - before[kind]) / 1e9 for kind in after}
    return Measurement(
        operations=0,
        seconds=seconds,
        warmup_seconds=context.warmup_seconds,
        cpu_seconds=sum(spent.values()),
        facts={f"{kind}_cpu_seconds": value for kind, value in spent.items()},
    )


class Stages:
    """One load over the whole path, measured once and asked for each stage."""

    def __init__(self) -> None:
        self._spent: dict[str, float] = {}
        self._events = 0
        self._seconds = 0.0

    def measure(self, context: Context, *, stage: str) -> Measurement:
        """What one stage took of it."""
        if not self._spent:
            self._load(context)
        return Measurement(
            operations=self._events,
            seconds=self._seconds,
            warmup_seconds=context.warmup_seconds,
            bytes_each=ROW_BYTES,
            cpu_seconds=self._spent[STAGES[stage][0]],
        )

    def _load(self, context: Context) -> None:
        with servers.certeus_on(servers.EMBEDDED, context) as ours:
            rows.append(ours, context, rows.WARMUP_EVENTS, 0)
            begin, before, postgres = time.perf_counter(), ours.cpu_ns(), ours.postgres_seconds()
            load, self._events = rows.append(ours, context, STAGE_EVENTS, loads.PRODUCERS)
            self._seconds, after = time.perf_counter() - begin, ours.cpu_ns()
            self._spent = {kind: (after[kind] - before[kind]) / 1e9 for kind in after}
            self._spent["postgres"] = ours.postgres_seconds() - postgres
            self._spent["producers"] = sum(report.cpu_seconds for report in load.reports)


_STAGES = Stages()
SCENARIOS = [
    Scenario(
        name="inproc/memory",
        system="certeus",
        scope=Scope.INPROC,
        what=f"PSS of all processes of certeusd with {DEDUP_KEYS:,} ids in the dedup window and"
        f" {WAITING_EVENTS:,} events of {EVENT_BYTES} B durable and not delivered.",
        measure=memory,
    ),
    Scenario(
        name="inproc/cpu",
        system="certeus",
        scope=Scope.INPROC,
        what=f"User and system time of all processes of certeusd for an event of {EVENT_BYTES} B"
        " without an id, until it is durable, at saturation.",
        measure=partial(throughput, producers=loads.PRODUCERS, event_bytes=EVENT_BYTES),
        settings={"until": "durable"},
    ),
    Scenario(
        name="inproc/cpu",
        system="certeus",
        scope=Scope.INPROC,
        what=f"The same for an event of {ROW_BYTES} B until it is a row; PostgreSQL is not in it.",
        measure=partial(rows.throughput, version=servers.EMBEDDED),
        settings={"until": "row"},
    ),
    Scenario(
        name="inproc/idle",
        system="certeus",
        scope=Scope.INPROC,
        what="Processor time of all processes of certeusd while nothing happens.",
        measure=idle,
    ),
    *(
        Scenario(
            name=f"stage/{stage}",
            system="certeus",
            scope=Scope.INPROC,
            what=f"Processor time for an event of {ROW_BYTES} B on its way to a row: {what}.",
            measure=partial(_STAGES.measure, stage=stage),
            settings={"producers": loads.PRODUCERS},
        )
        for stage, (_, what) in STAGES.items()
    ),
]
