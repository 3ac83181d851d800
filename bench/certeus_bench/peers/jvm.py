"""Aeron over shared memory, and Agrona's one-to-one ring buffer: two JVMs each.

One process leads: it reads, measures and prints; the other follows. Files are in memory, as the
ring's are. The JVM's warm-up is part of the warm-up: the halves of a run that is too short differ,
and it is then an artifact.
"""

from contextlib import ExitStack
from functools import partial
from pathlib import Path

from certeus_bench import native, ring
from certeus_bench.native import Command
from certeus_bench.peers import installed
from certeus_bench.results import Measurement, Scope
from certeus_bench.scenario import Context, Scenario

MAIN = "certeus.bench.Main"
RING_BYTES = 4 << 20
HEAP = "256m"
# What Agrona asks for on Java 17; no bounds checks, as its makers advise for production.
OPTIONS = (
    "--add-opens=java.base/jdk.internal.misc=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    "-Dagrona.disable.bounds.checks=true",
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
    f"-Xms{HEAP}",
    f"-Xmx{HEAP}",
)
SYSTEMS = {
    "aeron": f"aeron{installed.version('aeron-driver')}",
    "agrona": f"agrona{installed.version('agrona')}",
}
WORK = {
    "ring/one-way": ("one-way", ring.SPINNING),
    "ring/throughput": ("throughput", ring.THROUGHPUT),
}


def command(context: Context, directory: Path, system: str, work: str, role: str) -> Command:
    """One of the two JVMs, kept on its CPU."""
    classes = installed.built("ring/ring-peers.jar")
    cpu = context.cpus[-1 if (role == "lead") == (work == "throughput") else 0]
    told = {
        "warmupSeconds": context.warmup_seconds,
        "seconds": context.seconds,
        "payloadBytes": ring.PAYLOAD_BYTES,
        "ringBytes": RING_BYTES,
        "home": directory,
    }
    return [
        installed.program("taskset"), "-c", str(cpu), installed.program("java"), *OPTIONS,
        *(f"-Dbench.{name}={value}" for name, value in told.items()),
        "-cp", f"{classes}:{classes.parent}/lib/*", MAIN, system, work, role,
    ]  # fmt: skip


def measure(system: str, work: str, context: Context) -> Measurement:
    """Run both; what the leading one measured."""
    with ExitStack() as stack:
        directory = stack.enter_context(native.shared_memory(context))
        stack.enter_context(native.started(command(context, directory, system, work, "follow")))
        lead = command(context, directory, system, work, "lead")
        return native.decode(native.run(lead, context))


SCENARIOS = [
    Scenario(
        name=name, system=SYSTEMS[system], scope=Scope.RING, what=what,
        measure=partial(measure, system, work), settings={"payload_bytes": ring.PAYLOAD_BYTES},
    )
    for name, (work, what) in WORK.items()
    for system in SYSTEMS
]  # fmt: skip
