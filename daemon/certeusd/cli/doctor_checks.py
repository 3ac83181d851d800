"""What `certeus doctor` thinks of what it finds: pure judgements, each with the command that mends.

Bounds are what makes a difference that an operator would notice, not what would be ideal.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

Level = Literal["ok", "warning", "problem", "skipped"]

SYNC_P99_MS_MAX = 20.0
DESCRIPTORS_A_SESSION = 5
DESCRIPTORS_OWN = 256
CLOCKS = frozenset({"tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "arch_sys_counter"})
"""Clocks that are read without a system call."""
NETWORK_FILES = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "fuse.sshfs"})
UNLIMITED = -1
OTHERS = 0o007
POSTGRES_WANTED = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
POSTGRES_ASKED = (*POSTGRES_WANTED, "server_encoding", "server_version", "max_wal_size")
WAL_MIB_MIN = 512


class Finding(NamedTuple):
    """One check's outcome."""

    check: str
    level: Level
    what: str
    fix: str = ""
    """A command, or what else to do; empty: nothing."""


class Placed(NamedTuple):
    """A process and its CPUs."""

    name: str
    planned: int | None
    allowed: frozenset[int]


def affinity(placed: Sequence[Placed]) -> Finding:
    """Judge whether hot processes run where they were put."""
    drifted = [
        f"{one.name} is to run on CPU {one.planned} and runs on {_numbers(one.allowed)}"
        for one in placed
        if one.planned is not None and one.allowed != frozenset({one.planned})
    ]
    if drifted:
        return Finding("affinity", "warning", "; ".join(drifted), "systemctl restart certeus")
    pinned = [f"{one.name} on CPU {one.planned}" for one in placed if one.planned is not None]
    return Finding("affinity", "ok", ", ".join(pinned) or "nothing is pinned, as planned")


def locked_memory(wanted: bool, limit_bytes: int) -> Finding:
    """Judge the limit of locked memory (`UNLIMITED`: none)."""
    if not wanted:
        return Finding("memlock", "ok", "memory.lock is off")
    if limit_bytes == UNLIMITED:
        return Finding("memlock", "ok", "memory.lock is on, and there is no limit")
    return Finding(
        "memlock", "problem", f"memory.lock is on, and {limit_bytes >> 10} KiB may be locked",
        "systemctl edit certeus: [Service], LimitMEMLOCK=infinity; systemctl restart certeus",
    )  # fmt: skip


def huge_pages(wanted: bool, shared: str) -> Finding:
    """Judge `shmem_enabled` of the kernel, whose choice is in brackets."""
    if not wanted:
        return Finding("huge pages", "ok", "memory.huge_pages is off")
    chosen = shared.partition("[")[2].partition("]")[0]
    if chosen in ("always", "within_size", "advise", "force"):
        return Finding("huge pages", "ok", f"shared memory may have them ({chosen})")
    return Finding(
        "huge pages", "warning",
        f"memory.huge_pages is on, and the kernel gives none to shared memory ({chosen or '?'})",
        "echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled",
    )  # fmt: skip


def clock(source: str, synchronized: bool) -> list[Finding]:
    """Judge what the clock is made of, and whether somebody sets it."""
    slow = Finding(
        "clock source", "warning", f"{source}: each reading is a system call",
        "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource",
    )  # fmt: skip
    alone = Finding(
        "clock", "warning", "nobody keeps it: recorded_at is what this host believes",
        "timedatectl set-ntp true",
    )  # fmt: skip
    return [
        Finding("clock source", "ok", source) if source in CLOCKS else slow,
        Finding("clock", "ok", "kept by NTP") if synchronized else alone,
    ]


def file_system(kind: str) -> Finding:
    """Judge where the log is."""
    if kind not in NETWORK_FILES:
        return Finding("file system", "ok", kind)
    return Finding(
        "file system", "problem", f"{kind}: its syncs are another host's word",
        "put the state directory on a local disk (--state-dir, StateDirectory=)",
    )  # fmt: skip


def syncs(sync_ms: Sequence[float]) -> Finding:
    """Judge how long 4 KiB take to be durable there."""
    ordered = sorted(sync_ms)
    middle, high = (ordered[int(len(ordered) * part)] for part in (0.5, 0.99))
    told = f"4 KiB are durable in {middle:.2f} ms (p50), {high:.2f} ms (p99)"
    if high <= SYNC_P99_MS_MAX:
        return Finding("disk sync", "ok", told)
    fix = "a disk with power-loss protection; look for who else writes (iostat -x 1)"
    return Finding("disk sync", "warning", told, fix)


def room(free_bytes: int, reserve_bytes: int) -> Finding:
    """Judge what is left on the disk."""
    told = f"{free_bytes >> 20} MiB are free, {reserve_bytes >> 20} MiB are kept in reserve"
    if free_bytes > 2 * reserve_bytes:
        return Finding("disk room", "ok", told)
    return Finding("disk room", "warning", told, "make room, or lower log.disk_reserve_bytes")


def sockets(modes: Mapping[Path, int]) -> list[Finding]:
    """Judge who may open them: the control socket must not be open to all."""
    found = list[Finding]()
    for path, mode in modes.items():
        if path.name == "control.sock" and mode & OTHERS:
            found.append(
                Finding("sockets", "problem", f"{path} is open to everybody ({mode:04o})",
                        f"chmod o= {path}; systemctl restart certeus-control.socket")
            )  # fmt: skip
        else:
            found.append(Finding("sockets", "ok", f"{path} ({mode:04o})"))
    return found


def descriptors(limit: int, sessions_max: int) -> Finding:
    """Judge how many files the workers may have open."""
    needed = sessions_max * DESCRIPTORS_A_SESSION + DESCRIPTORS_OWN
    told = f"{limit} may be open; {sessions_max} sessions take up to {needed}"
    if limit >= needed:
        return Finding("descriptors", "ok", told)
    fix = f"systemctl edit certeus: [Service], LimitNOFILE={needed}; or lower limits.sessions_max"
    return Finding("descriptors", "warning", told, fix)


def postgres(settings: Mapping[str, str]) -> list[Finding]:
    """Judge the server's settings: durability first, then what costs throughput."""
    wal_mib = int(settings["max_wal_size"])
    found = [
        Finding("postgres", "problem", f"{name} is {settings[name]}: rows may be lost",
                f"ALTER SYSTEM SET {name} = {wanted}; SELECT pg_reload_conf();")
        for name, wanted in POSTGRES_WANTED.items()
        if settings[name] not in (wanted, "remote_apply", "remote_write")
    ]  # fmt: skip
    if settings["server_encoding"] != "UTF8":
        found.append(
            Finding("postgres", "problem", f"the encoding is {settings['server_encoding']}",
                    "make a database with ENCODING 'UTF8', and name it in postgres.dsn")
        )  # fmt: skip
    if wal_mib < WAL_MIB_MIN:
        found.append(
            Finding("postgres", "warning",
                    f"max_wal_size is {wal_mib} MiB: a checkpoint each second or two under load",
                    "ALTER SYSTEM SET max_wal_size = '4GB'; SELECT pg_reload_conf();")
        )  # fmt: skip
    told = f"{settings['server_version']}, fsync on, UTF8"
    return found or [Finding("postgres", "ok", told)]


def _numbers(cpus: frozenset[int]) -> str:
    return ",".join(map(str, sorted(cpus)))
