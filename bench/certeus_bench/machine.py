"""What the figures depend on: processor, kernel, disk, interpreter and commit.

Everything here describes the machine, so two runs with the same `IDENTITY` may be compared; what is
not among it (the interpreter's version, what `pg_test_fsync` measured) is told and no more.
"""

import contextlib
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psutil

Machine = dict[str, str | int | float]

IDENTITY = (
    "cpu", "cpus", "memory_gib", "kernel", "clocksource", "virtual", "file_system", "device",
)  # fmt: skip

PG_TEST_FSYNC = Path("/usr/lib/postgresql/15/bin/pg_test_fsync")
PG_TEST_FSYNC_TIMEOUT_S = 120.0
CLOCKSOURCE = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")
_METHOD = re.compile(r"^ +(\w+) +[0-9.]+ ops/sec +([0-9]+) usecs/op$", re.MULTILINE)


def describe(directory: Path, *, full: bool) -> Machine:
    """This machine, and the disk under ``directory``; ``full`` takes half a minute of syncs."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    allowed = sorted(os.sched_getaffinity(0))
    machine: Machine = {
        "cpu": _of_cpuinfo(cpuinfo, "model name") or platform.machine(),
        "cpus": len(allowed),
        "cpus_allowed": ranges(allowed),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "kernel": platform.release(),
        "clocksource": _word(CLOCKSOURCE),
        "virtual": _virtual(_of_cpuinfo(cpuinfo, "flags").split()),
        "python": platform.python_version(),
        **_disk(directory),
    }
    return machine | (pg_test_fsync(directory) if full else {})


def commit(checkout: Path) -> str:
    """The commit of a checkout, with ``-dirty`` behind it where files were changed."""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=12"]
    return _output([*command, "--exclude", "*"]) or "unknown"


def ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as the kernel writes them: ``0-2,5``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1][1:] = [number]
        else:
            parts.append([number])
    return ",".join("-".join(str(end) for end in part) for part in parts)


def pg_test_fsync(directory: Path) -> Machine:
    """What PostgreSQL's own program says of the disk: µs a sync of 8 KiB by each method."""
    if not PG_TEST_FSYNC.exists():
        return {}
    file = directory / "pg_test_fsync"
    try:
        told = _output([str(PG_TEST_FSYNC), "-s", "1", "-f", str(file)], PG_TEST_FSYNC_TIMEOUT_S)
    finally:
        file.unlink(missing_ok=True)
    return parse_pg_test_fsync(told)


def parse_pg_test_fsync(told: str) -> Machine:
    """The first table of its output: one write of 8 KiB, then a sync."""
    _, _, table = told.partition("using one 8kB write:")
    table, _, _ = table.partition("Compare ")
    return {f"pg_test_fsync_{name}_us": int(time_us) for name, time_us in _METHOD.findall(table)}


def _of_cpuinfo(cpuinfo: str, name: str) -> str:
    found = re.search(rf"^{name}\s*: (.*)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else ""


def _virtual(flags: list[str]) -> str:
    """A guest's processor says so; a container only systemd knows."""
    container = _output(["systemd-detect-virt", "--container"])
    found = ["virtual machine"] if "hypervisor" in flags else []
    found += [f"{container} container"] if container not in ("", "none") else []
    return ", ".join(found) or "no"


def _disk(directory: Path) -> Machine:
    """File system and device of a directory, by the longest mount point above it."""
    place = directory.resolve()
    mounts = [
        mount
        for mount in psutil.disk_partitions(all=True)
        if place.is_relative_to(mount.mountpoint)
    ]
    if not mounts:
        return {"file_system": "unknown", "device": "unknown"}
    mount = max(mounts, key=lambda one: len(one.mountpoint))
    number = place.stat().st_dev
    block = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}").resolve()
    queue = block / "queue" if (block / "queue").exists() else block.parent / "queue"
    told = {
        "device_model": _word(queue.parent / "device" / "model"),
        "device_write_cache": _word(queue / "write_cache"),
        "device_scheduler": "".join(re.findall(r"\[(.*)\]", _word(queue / "scheduler"))),
    }
    return {
        "file_system": mount.fstype,
        "mount_options": mount.opts,
        "device": mount.device,
        **{name: text for name, text in told.items() if text},
    }


def _word(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text().strip()
    return ""


def _output(command: list[str], timeout_s: float = 10.0) -> str:
    """What a program prints; nothing where it is not there, or says nothing in time."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
