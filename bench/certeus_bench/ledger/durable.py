"""Until an event is durable, and its producer knows it.

The daemon is one with its default configuration and an empty log on the disk under test. Where
throughput is measured the flusher is stopped: what is measured is the log, and its producers share
the processors with nothing else.
"""

from functools import partial

import msgspec

from certeus_bench.ledger import system
from certeus_bench.peers import loads
from certeus_bench.peers.durable_log import EVENT_BYTES
from certeus_bench.peers.running import PeerError
from certeus_bench.results import Measurement, Scope
from certeus_bench.scenario import Context, Scenario

BATCH = 512
"""What `append_many` is given; how much is on its way at once is the ring's to say."""
SECONDS_MAX = 30.0
"""So much fills gigabytes of log; a longer one shows nothing new."""
WARMUP_SECONDS_MAX = 5.0
PRODUCER_COUNTS = (1, 2, 4, 16, 64)
KINDS = {
    "bytes": "encoded JSON",
    "dicts": "dicts, which certeus encodes, each",
    "ids": "events with an explicit id and encoded JSON",
}
SIZES = (100, 256, 1024, 4096)


def bounded(context: Context) -> Context:
    """The same for as long as the disk has room."""
    return msgspec.structs.replace(
        context,
        seconds=min(context.seconds, SECONDS_MAX),
        warmup_seconds=min(context.warmup_seconds, WARMUP_SECONDS_MAX),
    )


def throughput(
    context: Context, *, producers: int, event_bytes: int, of: str = "bytes"
) -> Measurement:
    """Lists from some producers, as fast as back-pressure lets them."""
    context = bounded(context)
    with system.started(context) as certeus, certeus.flusher_paused():
        commands = [
            certeus.producer(seed, *loads.arguments(context, event_bytes, seed, BATCH), "--of", of)
            for seed in range(producers)
        ]
        load = loads.offer(commands, context, certeus.cpu)
        check_all_durable(certeus, load)
    return loads.measurement(load, context, event_bytes, 0, None)


def check_all_durable(certeus: system.System, load: loads.Load) -> None:
    """The log has a number for each event that was acknowledged, and for none besides."""
    acknowledged = sum(report.acknowledged for report in load.reports)
    if (durable := certeus.daemon.status().durable_seq) != acknowledged:
        raise PeerError(f"{acknowledged:,} events were acknowledged, {durable:,} are in the log")


def ack(context: Context) -> Measurement:
    """One event at a time, by a daemon that has nothing else to do."""
    with system.started(context) as certeus:
        command = certeus.producer(0, *loads.arguments(context, EVENT_BYTES, 0, 1))
        load = loads.offer([command], context, certeus.cpu)
        check_all_durable(certeus, load)
    return loads.measurement(load, context, EVENT_BYTES, 1, None)


def _poured(name: str, producers: int, event_bytes: int, of: str = "bytes") -> Scenario:
    return Scenario(
        name=name,
        system="certeus",
        scope=Scope.DURABLE,
        what=f"{producers} Python processes append {KINDS[of]} of {event_bytes} B by append_many,"
        " as fast as back-pressure lets them, until the last is acknowledged.",
        measure=partial(throughput, producers=producers, event_bytes=event_bytes, of=of),
        settings={"producers": producers, "of": of},
    )


SCENARIOS = [
    Scenario(
        name="durable/ack",
        system="certeus",
        scope=Scope.DURABLE,
        what=f"One Python process, one event of {EVENT_BYTES} B at a time, until it is"
        " acknowledged; nothing is pinned.",
        measure=ack,
        settings={"producers": 1},
    ),
    _poured("durable/throughput", loads.PRODUCERS, EVENT_BYTES),
    _poured("durable/throughput-dicts", loads.PRODUCERS, EVENT_BYTES, "dicts"),
    _poured("durable/throughput-ids", loads.PRODUCERS, EVENT_BYTES, "ids"),
    *(_poured(f"durable/producers-{count}", count, EVENT_BYTES) for count in PRODUCER_COUNTS),
    *(_poured(f"durable/bytes-{size}", loads.PRODUCERS, size) for size in SIZES),
]
