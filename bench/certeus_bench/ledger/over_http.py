"""Until an event that came over HTTP is durable, and the answer says so; the ring beside it.

Both ways have the same lists of events, and wait for each: a list's time is until all of it is
durable. The daemon is one with its default configuration and an empty log, its flusher stopped.
"""

from functools import partial

from certeus_bench.ledger import system
from certeus_bench.ledger.durable import bounded, check_all_durable
from certeus_bench.peers import loads
from certeus_bench.peers.durable_log import EVENT_BYTES
from certeus_bench.results import Measurement, Scope
from certeus_bench.scenario import Context, Scenario

BATCH = 4096
"""Events in a request, as a shipper of logs sends them: 800 KiB."""
WAYS = {
    "certeus http": "POST NDJSON to api.sock, one request after the other on one connection",
    "certeus ring": "append_many and wait_durable, one list after the other",
}


def appended(context: Context, *, way: str, producers: int, batch: int) -> Measurement:
    """Lists from some processes, each waited for."""
    context = bounded(context)
    over_http = way == "certeus http"
    with system.started(context) as certeus, certeus.flusher_paused():
        commands = [
            certeus.requester(
                seed, *loads.arguments(context, EVENT_BYTES, seed, batch),
                *([] if over_http else ["--ring"]), over_http=over_http,
            )
            for seed in range(producers)
        ]  # fmt: skip
        load = loads.offer(commands, context, certeus.cpu)
        check_all_durable(certeus, load)
    return loads.measurement(load, context, EVENT_BYTES, producers * batch, None)


def _scenarios(name: str, producers: int, batch: int, lists: str) -> list[Scenario]:
    return [
        Scenario(
            name=name,
            system=way,
            scope=Scope.HTTP,
            what=f"{producers} Python process{'es' * (producers > 1)}, {lists} of {EVENT_BYTES} B:"
            f" {what}, until all are durable.",
            measure=partial(appended, way=way, producers=producers, batch=batch),
            settings={"producers": producers, "batch": batch},
        )
        for way, what in WAYS.items()
    ]


SCENARIOS = [
    *_scenarios("http/ndjson", loads.PRODUCERS, BATCH, f"lists of {BATCH} events"),
    *_scenarios("http/single", 1, 1, "one event at a time"),
]
