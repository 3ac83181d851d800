"""`make run`: real records of this machine, durable, then one row each in PostgreSQL.

Starts certeusd in ./var with no configuration, appends, waits, counts by SQL, and shows it. On a
terminal it then stays up until Ctrl-C; otherwise it drains and exits 0.

Every run has its own source and its own ids, so that a second run on the same ./var adds its rows
to those of the first.
"""

import argparse
import asyncio
import itertools
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import asyncpg
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import certeus
import inputs
from certeus_bench import harness
from certeusd.supervisor import postgres_install

PROBE_INTERVAL_MS = 5
FLUSH_TIMEOUT_S = 600.0
PLAIN_EVERY_S = 2.0
CHUNK = 500
HELD_BYTES_MAX = 256 * 2**20

BY_TYPE = """\
SELECT type, count(*) AS events, min(seq) AS first_seq, max(seq) AS last_seq
FROM certeus.events WHERE source LIKE '{source}%' GROUP BY type ORDER BY events DESC"""
BY_SECTION = """\
SELECT data->>'Section' AS section, count(*) AS packages,
       max((data->>'Installed-Size')::bigint) / 1024 AS largest_mib
FROM certeus.events WHERE source = '{source}' AND type = 'package'
GROUP BY section ORDER BY packages DESC LIMIT 5"""

out = Console(highlight=False, soft_wrap=True)


class Loaded(NamedTuple):
    """What appending gave: counts, and seconds until all of it was durable."""

    offered: int
    refused: int
    statistics: certeus.Statistics
    seconds: float
    types: set[str]


class Answer(NamedTuple):
    """What PostgreSQL says about this run."""

    rows: int
    distinct: int
    query: str
    columns: list[str]
    sample: list[list[str]]


def say(sentence: str) -> None:
    """One plain line."""
    out.print(f"  {sentence}")


@contextmanager
def progress(total_name: str) -> Generator[Callable[[int, int], None], None, None]:
    """Shows (done, total): a bar on a terminal, else a line now and then."""
    if out.is_terminal:
        columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeElapsedColumn(), console=out, transient=True) as bars:
            task = bars.add_task(total_name, total=None)
            yield lambda done, total: bars.update(task, completed=done, total=total)
        return
    last = time.monotonic()

    def line(done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= PLAIN_EVERY_S:
            last = time.monotonic()
            say(f"{total_name} {done:,} of {total:,}")

    yield line


@contextmanager
def probe(socket: str, source: str) -> Generator[list[int], None, None]:
    """Measures single events in a process of its own; the list is filled when the block ends."""
    command = [
        sys.executable, str(Path(__file__).with_name("probe.py")), socket, source,
        "--interval-ms", str(PROBE_INTERVAL_MS),
    ]  # fmt: skip
    latencies: list[int] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield latencies
        answer, _ = process.communicate()
    if process.returncode != 0:
        raise harness.HarnessError(f"the probe ended with exit code {process.returncode}")
    latencies.extend(json.loads(answer))


def read(path: Path | None, name: str) -> Iterator[inputs.Record]:
    """Read all records before the clock starts, unless a file is too large to be held."""
    if path is None:
        return iter(list(inputs.of_machine(name, say)))
    if path.stat().st_size <= HELD_BYTES_MAX:
        return iter(list(inputs.of_file(path)))
    say(f"{path} is read while it is appended: its reading is part of the rate")
    return inputs.of_file(path)


def load(socket: str, source: str, records: Iterator[inputs.Record]) -> Loaded:
    """Append every record, wait until all are durable; refusals are counted and told, not fatal."""
    refused, offered, types = 0, 0, set[str]()
    with certeus.connect(socket, source=source) as producer, progress("durable") as show:
        begin = time.perf_counter()
        ticket = 0
        while chunk := list(itertools.islice(records, CHUNK)):
            for record in chunk:
                offered += 1
                types.add(record.type)
                try:
                    ticket = producer.append(
                        record.type, record.data, id=record.id, subject=record.subject
                    )
                except ValueError as error:
                    refused += 1
                    say(f"record {offered:,} was not appended: {error}")
            show(producer.statistics().settled, offered)
        while ticket:
            try:
                producer.wait_durable(ticket, timeout=60.0)
                break
            except certeus.RejectedError as error:
                say(str(error))
        seconds = time.perf_counter() - begin
        statistics = producer.statistics()
    return Loaded(offered, refused, statistics, seconds, types)


def wait_flushed(daemon: harness.Daemon) -> None:
    """Wait until PostgreSQL has all of it, showing how far it is."""
    with progress("in PostgreSQL") as show:
        goal = daemon.status().durable_seq
        deadline = time.monotonic() + FLUSH_TIMEOUT_S
        while (status := daemon.status()).flushed_seq < goal and time.monotonic() < deadline:
            show(status.flushed_seq, goal)
    daemon.wait_flushed(max(1.0, deadline - time.monotonic()))


async def ask_database(dsn: str, source: str, types: set[str]) -> Answer:
    """Count this run's rows and answer one sample question."""
    query = (BY_SECTION if "package" in types else BY_TYPE).format(source=source)
    connection = await asyncpg.connect(dsn)
    try:
        counted = await connection.fetchrow(
            "SELECT count(*), count(DISTINCT (log_id, seq)) FROM certeus.events "
            "WHERE source = ANY($1)",
            [source, f"{source}/probe"],
        )
        assert counted is not None
        rows = await connection.fetch(query)
    finally:
        await connection.close()
    columns = list(rows[0].keys()) if rows else []
    sample = [["" if value is None else str(value) for value in row.values()] for row in rows]
    return Answer(counted[0], counted[1], query, columns, sample)


def summary(loaded: Loaded, latencies: list[int], answer: Answer, seconds: float, dsn: str) -> None:
    """What happened, as a table, and the sample query with its answer."""
    table = Table(show_header=False, box=None, padding=(0, 2))
    table.add_column(style="bold")
    counts = loaded.statistics
    events = counts.accepted + counts.escalated
    table.add_row("events", f"{events:,} durable, and {len(latencies):,} of the probe")
    for count, what in (
        (counts.rejected, "rejected by the daemon"),
        (loaded.refused, "refused by the library"),
        (counts.duplicates, "duplicates of earlier ones"),
    ):
        if count:
            table.add_row("", f"{count:,} {what}")
    table.add_row("durable", f"{events / loaded.seconds:,.0f} events/s")
    if latencies:
        p50, p99 = np.percentile(np.array(latencies) / 1e6, [50, 99])
        table.add_row("", f"p50 {p50:.2f} ms, p99 {p99:.2f} ms for one event meanwhile")
    table.add_row("in PostgreSQL", f"{answer.rows:,} rows, {answer.distinct:,} of them distinct")
    table.add_row("", f"{answer.rows / seconds:,.0f} rows/s, from the first append to the last row")
    out.rule("certeus", align="left")
    out.print(table)
    out.print()
    out.print(f"  {psql()} '{dsn}'", markup=False)
    out.print()
    for line in answer.query.splitlines():
        out.print(f"  {line}", style="cyan", markup=False)
    result = Table(box=None, padding=(0, 2))
    for column in answer.columns:
        result.add_column(column, style="none", header_style="bold")
    for row in answer.sample:
        result.add_row(*row)
    out.print(result)
    out.print()


def psql() -> str:
    """The psql of this machine, else the one that came with the embedded server."""
    if shutil.which("psql"):
        return "psql"
    return shown(postgres_install.wheel_install() / "bin" / "psql")


def shown(path: Path) -> str:
    """A path as one types it in the checkout."""
    return str(path.relative_to(harness.ROOT)) if path.is_relative_to(harness.ROOT) else str(path)


def stay(daemon: harness.Daemon) -> None:
    """A status line until Ctrl-C."""
    say("Up until Ctrl-C. In another terminal, in this directory:")
    certeus_command = f".venv/bin/certeus --runtime-dir {shown(daemon.runtime_dir)}"
    say(f"  echo '{{\"hello\":1}}' | {certeus_command} append")
    say(f"  {certeus_command} status")
    out.print()
    try:
        with out.status("") as line:
            while True:
                status = daemon.status()
                line.update(
                    f"{status.state}: durable {status.durable_seq:,}, in PostgreSQL "
                    f"{status.flushed_seq:,}, behind by {status.lag_events:,}"
                )
                time.sleep(1.0)
    except KeyboardInterrupt:
        say("stopping")


def run(input_path: Path | None, home: Path) -> bool:
    """The main job in ``home``; whether every durable event is exactly one row."""
    home, notice = harness.home_for(home)
    if notice:
        say(notice)
    name = time.strftime("%Y%m%dT%H%M%S")
    source = f"make-run/{name}"
    with harness.started(home) as daemon:
        if daemon.short_runtime_dir:
            say(f"{home} is too long for a socket's path: sockets are in {daemon.runtime_dir}")
        say(f"certeusd is ready in {home} (its log: {daemon.log_path})")
        say(f"source and ids of this run begin with {source} and {name}: a second run adds rows")
        records = read(input_path, name)
        begin = time.perf_counter()
        with probe(daemon.socket, f"{source}/probe") as latencies:
            loaded = load(daemon.socket, source, records)
            wait_flushed(daemon)
        wait_flushed(daemon)  # the probe's last ones
        seconds = time.perf_counter() - begin
        dsn = daemon.dsn()
        answer = asyncio.run(ask_database(dsn, source, loaded.types))
        summary(loaded, latencies, answer, seconds, dsn)
        expected = loaded.statistics.accepted + loaded.statistics.escalated + len(latencies)
        exact = answer.rows == answer.distinct == expected
        if not exact:
            say(f"WRONG: {expected:,} events are durable, but {answer.rows:,} rows were found")
        if out.is_terminal and sys.stdin.isatty():
            stay(daemon)
        code = daemon.stop()
        say(f"stopped with exit code {code}; everything stays in {home}, PostgreSQL's rows too:")
        where = f"--state-dir {shown(daemon.state_dir)} --runtime-dir {shown(daemon.runtime_dir)}"
        say(f"  .venv/bin/certeusd {where}    starts it again")
        return exact and code == 0


def main() -> int:
    """Parse, run, and turn what went wrong outside into one message."""
    parser = argparse.ArgumentParser(description=__doc__, prog="make run")
    parser.add_argument("--input", type=Path, help="lines of this file instead of this machine's")
    parser.add_argument("--home", type=Path, default=harness.ROOT / "var")
    options = parser.parse_args()
    if options.input and not options.input.is_file():
        parser.error(f"cannot read {options.input}: no such file")
    try:
        return 0 if run(options.input, options.home) else 1
    except KeyboardInterrupt:
        return 130
    except TimeoutError as error:
        print(f"make run: not durable in time ({error}): see var/certeusd.log", file=sys.stderr)
        return 1
    except (harness.HarnessError, certeus.Error, asyncpg.PostgresError, OSError) as error:
        print(f"make run: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main())
