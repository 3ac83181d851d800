"""Measurements, results and runs that no machine made, for the tests of what judges them."""

import msgspec

from certeus_bench import derive, histogram
from certeus_bench.results import Label, Loop, Measurement, Result, Run, Scope

SCOPES = {**{scope.value: scope for scope in Scope}, "stage": Scope.INPROC}
Changes = dict[str, object]
Setting = str | int | float | bool


def times(*steps: tuple[int, int]) -> str:
    """A histogram's text of (time in ns, how often)."""
    made = histogram.empty()
    for time_ns, count in steps:
        histogram.record(made, time_ns, count)
    return histogram.encode(made)


# 10,000 operations in 10 s, one after the other, about 1 ms each.
SOUND = Measurement(
    operations=10_000,
    seconds=10.0,
    warmup_seconds=3.0,
    bytes_each=64,
    concurrency=1,
    histogram=times((900_000, 9_000), (1_500_000, 900), (3_000_000, 100)),
    timer_ns=25,
    intervals=[1_000] * 10,
    interval_seconds=1.0,
    written_sum=2**64 - 1,
    read_sum=2**64 - 1,
)


def fake(**changes: object) -> Measurement:
    """A sound measurement, but for what is given."""
    return msgspec.structs.replace(SOUND, **changes)


def rate(per_second: int, **changes: object) -> Measurement:
    """Only a throughput, over 10 s."""
    return fake(
        operations=per_second * 10, histogram=None, timer_ns=0, concurrency=0,
        intervals=[per_second] * 10, **changes,
    )  # fmt: skip


def latency(p50_ns: int, p99_ns: int, **changes: object) -> Measurement:
    """Only times, of which nine in ten are the p50 and the rest is the p99, at any rate."""
    return fake(
        histogram=times((p50_ns, 9_000), (p99_ns, 1_000)), timer_ns=1, loop=Loop.OPEN,
        concurrency=0, **changes,
    )  # fmt: skip


def result(
    name: str,
    measurement: Measurement = SOUND,
    system: str = "certeus",
    *,
    unsafe: bool = False,
    **settings: Setting,
) -> Result:
    """A result with all that follows from its measurement; the scope is that of its name."""
    group = name.partition("/")[0]
    return derive.derived(
        Result(
            name=name,
            system=system,
            scope=SCOPES.get(group, Scope.DURABLE),
            what=f"What {name} does.",
            unsafe=unsafe,
            settings=settings,
            measurement=measurement,
            per_second=0.0,
            latency=None,
            label=Label.ARTIFACT,
            reasons=[],
        )
    )


def run(*results: Result, absent: dict[str, str] | None = None, **machine: str | int) -> Run:
    """A run with its gates."""
    return derive.with_gates(
        Run(
            started_at="2026-01-02T03:04:05Z",
            commit="0123456789ab",
            command="certeus-bench run",
            machine={"cpu": "Faked CPU", "cpus": 2, **machine},
            settings={"mode": "quick", "warmup_seconds": 3.0, "seconds": 10.0},
            results=list(results),
            absent=absent or {},
        )
    )


def ambitious() -> list[Result]:
    """Results with which every bar is reached, those against peers included."""
    ms = 1_000_000
    producers = (1, 2, 8, 64)
    sizes = (100, 512, 1024, 4096)
    return [
        result("ring/one-way", latency(200, 400)),
        result("floor/ping-pong", latency(100, 150), "floor"),
        result("ring/one-way", latency(300, 900), "iceoryx2 0.8.0"),
        result("ring/one-way", latency(250, 800), "Aeron 1.50.0"),
        result("ring/throughput", rate(25_000_000)),
        result("ring/throughput-python", rate(6_000_000)),
        result("ring/throughput-python", rate(500_000), "faster-fifo 1.5"),
        result("ring/throughput-dict", rate(1_100_000)),
        result("durable/ack", latency(ms, 2 * ms)),
        result("floor/fdatasync-4k", latency(800_000, 1_500_000), "floor"),
        result("durable/throughput", rate(1_200_000)),
        result("durable/throughput", rate(20_000), "Redis 7.0.15", appendfsync="always"),
        *[result(f"durable/producers-{n}", rate(1_000_000 - n)) for n in producers],
        *[result(f"durable/bytes-{n}", rate(1_000_000 - n)) for n in sizes],
        result("postgres/throughput", rate(350_000), postgres=18),
        result("floor/copy", rate(450_000), "floor", postgres=18),
        result("postgres/throughput", rate(250_000), postgres=15),
        result("floor/copy", rate(300_000), "floor", postgres=15),
        result("postgres/row-latency", latency(20 * ms, 60 * ms)),
        result("inproc/memory", rate(0, facts={"pss_bytes": 200.0 * 2**20})),
        result("inproc/cpu", rate(1_000_000, cpu_seconds=12.0)),
        result("inproc/idle", rate(0, cpu_seconds=0.05)),
    ]
