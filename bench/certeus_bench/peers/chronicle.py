"""Chronicle Queue, ``SyncMode.SYNC``: an event counts when ``ExcerptAppender.sync()`` has returned.

An append alone syncs nothing: the mode says what ``sync()`` does. As strace shows it, that is one
``msync(MS_SYNC)`` of all that was written since the one before, the other process's excerpts in
between included. It is a library for the JVM, so its two producers are JVMs, the only ones here
that are not Python. Tried were 64 to 65,536 excerpts to a sync: best from 16,384.
"""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from certeus_bench.peers import durable_log, installed, loads
from certeus_bench.rows import make_rows
from certeus_bench.scenario import AbsentError, Context

EXCERPTS = 16_384
PROGRAM = "certeus.bench.ChronicleLog"
# What Chronicle asks for on Java 17.
OPTIONS = (
    "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED",
    "--add-exports=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-exports=jdk.unsupported/sun.misc=ALL-UNNAMED",
    "--add-exports=jdk.compiler/com.sun.tools.javac.file=ALL-UNNAMED",
    "--add-opens=jdk.compiler/com.sun.tools.javac=ALL-UNNAMED",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "--add-opens=java.base/java.lang.reflect=ALL-UNNAMED",
    "--add-opens=java.base/java.io=ALL-UNNAMED",
    "--add-opens=java.base/java.util=ALL-UNNAMED",
    "-Dchronicle.announcer.disable=true",
)


def command(directory: Path) -> list[str]:
    """A JVM with the program, which keeps the queue in ``directory``."""
    jars = installed.PEERS / "chronicle"
    if not (jars / "certeus-chronicle.jar").exists():
        raise AbsentError(f"cannot find Chronicle Queue in {jars}; {installed.INSTALLS}")
    classes = f"{jars}/*:{jars}/lib/*"
    return [installed.program("java"), *OPTIONS, "-cp", classes, PROGRAM, str(directory)]


@contextmanager
def serve(context: Context) -> Generator[durable_log.Target, None, None]:
    """The rows in files, and no queue yet: it is a library, whose first producer makes it."""
    for seed in range(loads.PRODUCERS):
        rows = make_rows(durable_log.EVENT_BYTES, seed)
        (context.home / f"rows-{seed}").write_bytes(b"".join(rows))
    yield durable_log.Target(command(context.home), [])


SCENARIOS = durable_log.scenarios(
    f"chronicle-queue{installed.version('chronicle-queue')}",
    serve,
    batch=EXCERPTS,
    batch_is="excerpts to a sync",
    how="Chronicle Queue, whose sync() has returned",
    settings={"syncMode": "SYNC", "producers are": "JVMs"},
)
