"""`certeus doctor`: looks at what surrounds certeus, and says what to do about it."""

import ctypes
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import click

from certeusd.cli import doctor_checks as checks
from certeusd.cli.common import client_of, console, json_option, paths_of, print_json, wants_json
from certeusd.cli.doctor_checks import Finding, Placed
from certeusd.control.client import Json
from certeusd.exits import ExitError
from certeusd.paths import Paths

SYNCS = 200
BLOCK = bytes(4096)
MARKS = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "problem": "[red]✗[/]",
         "skipped": "[dim]-[/]"}  # fmt: skip
CLOCK_SOURCE = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/shmem_enabled")
_TIME_ERROR = 5
_TIMEX_BYTES = 512
"""More than `struct timex` has, whose first word (`modes`) 0 only asks."""


@click.command()
@json_option
@click.pass_context
def command(context: click.Context) -> None:
    """Look at CPUs, memory, clock, disk, sockets and PostgreSQL around certeus.

    Each finding has the command that mends it; exit 1 if there is a problem. It changes nothing;
    syncs are timed in a file without a name.
    """
    client, paths = client_of(context), paths_of(context)
    status: Json | None = None
    config: dict[str, object] = {}
    findings = list[Finding]()
    try:
        status = client.get("/v1/status")
        keys = cast(list[dict[str, object]], client.get("/v1/config")["keys"])
        config = {str(one["key"]): one["value"] for one in keys}
    except ExitError as error:
        findings.append(Finding("daemon", "skipped", str(error)))
    findings.extend(_seen("processes", _of_processes(status, config)))
    findings.extend(_seen("clock", _of_host(config)))
    findings.extend(_of_disk(paths, config))
    findings.extend(_of_sockets(paths))
    findings.extend(_of_postgres(lambda: str(client.get("/v1/dsn", show_password="true")["dsn"])))
    problems = sum(one.level == "problem" for one in findings)
    if wants_json(context):
        rows = [one._asdict() for one in findings]
        print_json({"schema_version": 1, "problems": problems, "findings": rows})
    else:
        _show(findings)
    context.exit(1 if problems else 0)


def _show(findings: list[Finding]) -> None:
    from rich.markup import escape

    out = console()
    for one in findings:
        out.print(f"{MARKS[one.level]} {one.check:13} {escape(one.what)}", soft_wrap=True)
        if one.fix:
            out.print(f"  {'':13} → {escape(one.fix)}", soft_wrap=True)


def _seen(name: str, found: Iterator[Finding]) -> Iterator[Finding]:
    """What is found, up to what cannot be looked at: a process that has just died, for instance."""
    try:
        yield from found
    except OSError as error:
        yield Finding(name, "skipped", str(error))


def _of_processes(status: Json | None, config: dict[str, object]) -> Iterator[Finding]:
    if status is None:
        return
    rows = [*cast(list[Json], status["processes"]), *cast(list[Json], status["workers"])]
    placed = [
        Placed(
            str(row["name"]),
            cast(int | None, row["cpu"]),
            frozenset(os.sched_getaffinity(cast(int, row["pid"]))),
        )
        for row in rows
        if row["pid"]
    ]
    yield checks.affinity(placed)
    limits = _limits(cast(int, status["pid"]))
    yield checks.locked_memory(bool(config["memory.lock"]), limits["Max locked memory"])
    yield checks.descriptors(limits["Max open files"], cast(int, config["limits.sessions_max"]))


def _limits(pid: int) -> dict[str, int]:
    """Soft limits of a process by the names of /proc/PID/limits."""
    found = dict[str, int]()
    for line in Path("/proc", str(pid), "limits").read_text().splitlines()[1:]:
        name, soft = line[:26].strip(), line[26:47].strip()
        found[name] = checks.UNLIMITED if soft == "unlimited" else int(soft)
    return found


def _of_host(config: dict[str, object]) -> Iterator[Finding]:
    if HUGE_PAGES.exists():
        yield checks.huge_pages(bool(config.get("memory.huge_pages")), HUGE_PAGES.read_text())
    timex = ctypes.create_string_buffer(_TIMEX_BYTES)
    kept = ctypes.CDLL(None).adjtimex(timex) not in (_TIME_ERROR, -1)
    yield from checks.clock(CLOCK_SOURCE.read_text().strip(), kept)


def _of_disk(paths: Paths, config: dict[str, object]) -> Iterator[Finding]:
    directory = paths.state_dir
    if not os.access(directory, os.W_OK | os.X_OK):
        why = (
            "there is none" if not directory.exists() else "not ours to write; be the daemon's user"
        )
        yield Finding("disk sync", "skipped", f"{directory}: {why}")
        return
    yield checks.file_system(_file_system(directory))
    try:
        yield checks.syncs(list(_syncs(directory)))
    except OSError as error:
        yield Finding("disk sync", "skipped", f"{directory}: {error.strerror}")
    reserve = config.get("log.disk_reserve_bytes")
    if isinstance(reserve, int):
        found = os.statvfs(directory)
        yield checks.room(found.f_bavail * found.f_frsize, reserve)


def _syncs(directory: Path) -> Iterator[float]:
    """Milliseconds that each of some syncs takes, in a file that has no name."""
    descriptor = os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o600)
    try:
        os.pwrite(descriptor, BLOCK * SYNCS, 0)
        os.fsync(descriptor)
        for at in range(SYNCS):
            os.pwrite(descriptor, BLOCK, at * len(BLOCK))
            begun = time.monotonic()
            os.fdatasync(descriptor)
            yield (time.monotonic() - begun) * 1000
    finally:
        os.close(descriptor)


def _file_system(directory: Path) -> str:
    """Name of the file system that holds a directory."""
    best, kind = "", "unknown"
    resolved = str(directory.resolve())
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, name, *_ = line.split()
        inside = resolved == place or resolved.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(best):
            best, kind = place, name
    return kind


def _of_sockets(paths: Paths) -> Iterator[Finding]:
    modes = {
        path: path.stat().st_mode & 0o777
        for path in (paths.control_socket, paths.ingest_socket)
        if path.is_socket()
    }
    yield from checks.sockets(modes)


def _of_postgres(dsn: Callable[[], str]) -> Iterator[Finding]:
    from certeusd.flush import server_settings

    try:
        settings = server_settings.read(dsn(), checks.POSTGRES_ASKED)
    except (ExitError, server_settings.AwayError) as error:
        yield Finding("postgres", "skipped", str(error))
        return
    yield from checks.postgres(settings)
