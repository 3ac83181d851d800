"""`make bench`: the figures that certeus promises, in under three minutes.

The method, and what each figure means, is in bench/README.md. Prints a table, then one JSON object,
which is also kept as bench/out/quick.json.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TypedDict

import numpy as np
from rich.console import Console
from rich.table import Table

import baseline
import harness

HERE = Path(__file__).resolve().parent
FLUSH_TIMEOUT_S = 600.0
LATENCY_COUNT = 2000
COPY_ROWS_MAX = 1_000_000
SUSTAINED_GOAL = 65_432
BURST_SECONDS = 5.0
# Sustained: producers pause while more than this waits for PostgreSQL, so that it is never idle and
# the log does not grow.
BEHIND_MAX = 200_000
HOLD_POLL_S = 0.02

out = Console(highlight=False, stderr=True)


class Throughput(TypedDict):
    """One load: what was offered, and the two rates that count."""

    event_bytes: int
    producers: int
    events: int
    load_seconds: float
    behind_max: int | None
    durable_per_s: int
    postgres_per_s: int
    postgres_per_s_in_load: int
    behind_at_end: int
    pss_mib: dict[str, float]


class Latency(TypedDict):
    """Single events, one at a time, against the bare sync of the same file system, in ms."""

    count: int
    p50_ms: float
    p99_ms: float
    bare_sync_p50_ms: float
    bare_sync_p99_ms: float
    ratio_p50: float
    ratio_p99: float


class Copy(TypedDict):
    """The bare COPY of rows that arrived."""

    rows: int
    stream_bytes: int
    rows_per_s: int


class Figures(TypedDict):
    """Everything that `make bench` prints."""

    schema_version: int
    machine: dict[str, str | int]
    burst: Throughput
    sustained: Throughput
    bare_copy: Copy
    ratio_to_bare_copy: float
    latency: Latency


def run_load(
    daemon: harness.Daemon,
    event_bytes: int,
    producers: int,
    seconds: float,
    behind_max: int | None = None,
) -> Throughput:
    """Offer events from processes of their own until the time is over, then wait for PostgreSQL.

    With ``behind_max``, the processes pause while so many events are durable and not yet rows.

    ``durable_per_s`` counts until the last event is durable, ``postgres_per_s`` until the last is a
    row: neither leaves out what was still under way when the load ended. What arrived while
    producers were running is ``postgres_per_s_in_load``.
    """
    before = daemon.status()
    hold = daemon.state_dir.parent / "hold"
    hold.write_bytes(b"0")
    processes = [
        subprocess.Popen(
            [sys.executable, str(HERE / "load.py"), daemon.socket, f"bench/{index}",
             "--bytes", str(event_bytes), "--seconds", str(seconds), "--seed", str(index),
             *([] if behind_max is None else ["--hold", str(hold)])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for index in range(producers)
    ]  # fmt: skip
    for process in processes:
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise harness.HarnessError("a load process cannot connect; its message is above")
    begin = time.perf_counter()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    pss: dict[str, int] = {}
    with hold.open("r+b", buffering=0) as file:
        while (passed := time.perf_counter() - begin) < seconds:
            behind = daemon.status().lag_events
            if behind_max is not None:
                file.seek(0)
                file.write(b"1" if behind > behind_max else b"0")
            if passed > seconds - 1.0 and not pss:
                pss = daemon.pss_bytes()
            time.sleep(HOLD_POLL_S)
    answers = [json.loads(process.communicate()[0]) for process in processes]
    load_seconds = max(answer["seconds"] for answer in answers)
    behind = daemon.status().lag_events
    daemon.wait_flushed(FLUSH_TIMEOUT_S)
    all_seconds = time.perf_counter() - begin
    events = sum(int(answer["accepted"]) for answer in answers)
    flushed = daemon.status().flushed_seq - before.flushed_seq
    if flushed < events:
        raise harness.HarnessError(f"{events:,} events are durable, {flushed:,} were flushed")
    return Throughput(
        event_bytes=event_bytes,
        producers=producers,
        events=events,
        load_seconds=round(load_seconds, 3),
        behind_max=behind_max,
        durable_per_s=round(events / load_seconds),
        postgres_per_s=round(events / all_seconds),
        postgres_per_s_in_load=round((events - behind) / load_seconds),
        behind_at_end=behind,
        pss_mib={name: round(size / 2**20, 1) for name, size in sorted(pss.items())},
    )


def run_latency(daemon: harness.Daemon, count: int) -> Latency:
    """Acknowledgement of single events on an idle daemon, between two runs of the bare sync."""
    bare = baseline.bare_sync_ns(daemon.state_dir.parent, count // 2)
    command = [sys.executable, str(HERE / "probe.py"), daemon.socket, "bench/probe"]
    done = subprocess.run(
        [*command, "--count", str(count)], check=True, stdout=subprocess.PIPE, text=True
    )
    bare += baseline.bare_sync_ns(daemon.state_dir.parent, count // 2)
    p50, p99 = np.percentile(np.array(json.loads(done.stdout)) / 1e6, [50, 99])
    bare_p50, bare_p99 = np.percentile(np.array(bare) / 1e6, [50, 99])
    return Latency(
        count=count,
        p50_ms=round(float(p50), 4),
        p99_ms=round(float(p99), 4),
        bare_sync_p50_ms=round(float(bare_p50), 4),
        bare_sync_p99_ms=round(float(bare_p99), 4),
        ratio_p50=round(float(p50 / bare_p50), 2),
        ratio_p99=round(float(p99 / bare_p99), 2),
    )


def run_bare_copy(daemon: harness.Daemon, rows_max: int) -> Copy:
    """The denominator for rows: the daemon is idle, and its server does nothing else."""
    done = asyncio.run(baseline.bare_copy(daemon.dsn(), rows_max))
    return Copy(
        rows=done.rows, stream_bytes=done.stream_bytes, rows_per_s=round(done.rows / done.seconds)
    )


def measure(home: Path, event_bytes: int, producers: int, seconds: float) -> Figures:
    """All figures of the quick benchmark with one fresh daemon in ``home``."""
    with harness.started(home) as daemon:
        daemon.dsn()  # the database is there before anything is measured
        out.print("  latency of single events, and of the bare sync ...")
        latency = run_latency(daemon, LATENCY_COUNT)
        out.print(f"  {producers} producers, {event_bytes} B, as fast as they can ...")
        burst = run_load(daemon, event_bytes, producers, min(BURST_SECONDS, seconds))
        out.print(f"  the same for {seconds:.0f} s, at most {BEHIND_MAX:,} ahead of PostgreSQL ...")
        sustained = run_load(daemon, event_bytes, producers, seconds, BEHIND_MAX)
        out.print("  bare COPY of the same rows ...")
        copy = run_bare_copy(daemon, min(COPY_ROWS_MAX, sustained["events"]))
    into_postgres = min(sustained["postgres_per_s"], sustained["postgres_per_s_in_load"])
    return Figures(
        schema_version=1,
        machine=harness.machine(),
        burst=burst,
        sustained=sustained,
        bare_copy=copy,
        ratio_to_bare_copy=round(into_postgres / copy["rows_per_s"], 3),
        latency=latency,
    )


def show(figures: Figures) -> None:
    """The same as a table, for people."""
    sustained, latency, copy = figures["sustained"], figures["latency"], figures["bare_copy"]
    burst = figures["burst"]
    rate = min(sustained["postgres_per_s"], sustained["postgres_per_s_in_load"])
    goal = f"{SUSTAINED_GOAL:,} {'reached' if rate >= SUSTAINED_GOAL else 'missed'}"
    length = f"{sustained['event_bytes']} B JSON, for {sustained['load_seconds']:.0f} s: {goal}"
    table = Table(title="certeus, quick benchmark", title_justify="left", box=None)
    table.add_column("what", style="bold")
    table.add_column("figure", justify="right")
    table.add_column("against")
    for row in (
        ("durable", f"{burst['durable_per_s']:,} /s", f"burst of {burst['load_seconds']:.0f} s"),
        ("in PostgreSQL", f"{rate:,} /s", length),
        ("bare COPY", f"{copy['rows_per_s']:,} /s", f"ratio {figures['ratio_to_bare_copy']:.2f}"),
        ("ack p50", f"{latency['p50_ms']:.3f} ms", _against(latency, "p50")),
        ("ack p99", f"{latency['p99_ms']:.3f} ms", _against(latency, "p99")),
        ("memory (PSS)", f"{sum(sustained['pss_mib'].values()):,.0f} MiB", _parts(sustained)),
    ):
        table.add_row(*row)
    out.print(table)


def _against(latency: Latency, which: str) -> str:
    bare, ratio = (
        (latency["bare_sync_p50_ms"], latency["ratio_p50"])
        if which == "p50"
        else (latency["bare_sync_p99_ms"], latency["ratio_p99"])
    )
    return f"bare fdatasync {bare:.3f} ms, ratio {ratio:.2f}"


def _parts(sustained: Throughput) -> str:
    return ", ".join(f"{name} {size:.0f}" for name, size in sustained["pss_mib"].items())


def fresh_home(parent: Path | None) -> tempfile.TemporaryDirectory[str]:
    """A directory that goes when the benchmark ends; on the checkout's disk unless told."""
    wanted = parent or HERE / "out"
    wanted.mkdir(parents=True, exist_ok=True)
    if harness.blocked_for_postgres(wanted):
        wanted = Path("/var/tmp")
    return tempfile.TemporaryDirectory(prefix="certeus-bench-", dir=wanted)


def main() -> int:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, prog="make bench")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of the load")
    parser.add_argument("--bytes", type=int, default=150, help="size of an event's JSON")
    parser.add_argument("--producers", type=int, default=2, help="processes that append")
    parser.add_argument("--dir", type=Path, help="measure the disk that holds this directory")
    options = parser.parse_args()
    try:
        with fresh_home(options.dir) as name:
            home = Path(name)
            home.chmod(0o755)  # the embedded PostgreSQL runs as another user under root
            figures = measure(home, options.bytes, options.producers, options.seconds)
    except harness.HarnessError as error:
        print(f"make bench: {error}", file=sys.stderr)
        return 1
    show(figures)
    text = json.dumps(figures, indent=2)
    (HERE / "out").mkdir(exist_ok=True)
    (HERE / "out" / "quick.json").write_text(text + "\n")
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
