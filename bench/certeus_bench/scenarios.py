"""Everything that can be measured, in the order in which it is: floors first, peers last."""

from certeus_bench import floors, memory_floors, ring
from certeus_bench.ledger import costs, durable, over_http, row_latency, rows
from certeus_bench.peers import (
    chronicle,
    copy_clients,
    iceoryx2,
    jetstream,
    jvm,
    queues,
    redis_copy,
    redis_streams,
    rsyslog,
    sqlite_wal,
)
from certeus_bench.scenario import Scenario

OWN: tuple[Scenario, ...] = (
    *floors.SCENARIOS,
    *memory_floors.SCENARIOS,
    *ring.SCENARIOS,
    *durable.SCENARIOS,
    *over_http.SCENARIOS,
    *rows.SCENARIOS,
    *row_latency.SCENARIOS,
    *costs.SCENARIOS,
)
"""certeus and its floors: what a checkout can measure as it is."""

PEERS: tuple[Scenario, ...] = (
    *iceoryx2.SCENARIOS,
    *jvm.SCENARIOS,
    *queues.SCENARIOS,
    *redis_streams.SCENARIOS,
    *jetstream.SCENARIOS,
    *sqlite_wal.SCENARIOS,
    *chronicle.SCENARIOS,
    *copy_clients.SCENARIOS,
    *redis_copy.SCENARIOS,
    *rsyslog.SCENARIOS,
)
"""What certeus is measured against; the scripts of `bench/install` put it below `.peers/`."""
