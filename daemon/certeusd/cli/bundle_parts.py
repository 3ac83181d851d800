"""What goes into a support bundle: each part within its time, and nothing that is secret.

Three rules keep secrets and event data out. Parts are made of what the control API and the verbs
show, which have none. Text that may quote PostgreSQL, and so a row, is left out; of log lines that
certeus wrote only listed words and numbers stay, of others nothing. And what all the same holds a
secret that can be read here (a password, the log's key) is not taken.
"""

import http.client
import json
import os
import platform
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import NamedTuple, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from certeusd import __version__, config_shown, config_sources, systemd
from certeusd.control.client import Json
from certeusd.exits import ExitError
from certeusd.paths import Paths

UNIT = "certeus.service"
OUTPUT_BYTES_MAX = 32 << 20
SECRET_LENGTH_MIN = 4
LEFT_OUT = "(left out: it may quote a row)"
UNIT_PROPERTIES = (
    "LoadState", "ActiveState", "SubState", "Result", "NRestarts", "ExecMainCode", "ExecMainStatus",
    "ExecMainStartTimestamp", "MainPID", "MemoryCurrent", "MemoryPeak", "MemoryHigh", "MemoryMax",
    "TasksCurrent", "TasksMax", "CPUUsageNSec", "LimitNOFILE", "LimitMEMLOCK", "UnitFileState",
    "FragmentPath", "DropInPaths", "NeedDaemonReload", "WatchdogUSec",
)  # fmt: skip
"""By name: the environment of a unit may hold a password."""
PROC_STATUS = ("Name", "State", "Threads", "VmPeak", "VmRSS", "VmHWM", "VmLck", "VmSwap",
               "Cpus_allowed_list", "voluntary_ctxt_switches",
               "nonvoluntary_ctxt_switches")  # fmt: skip
CGROUP_FILES = ("memory.current", "memory.max", "memory.high", "memory.events", "memory.pressure",
                "pids.current", "cpu.stat")  # fmt: skip
LOG_WORDS = frozenset({"event", "level", "role", "code", "state", "label", "phase", "module",
                       "version", "signal", "severity", "stage", "outcome"})  # fmt: skip
ROLES = ("supervisor", "worker", "log", "flush", "api", "syslog", "journal")
LOG_NUMBERS = frozenset({
    "seq", "first_seq", "last_seq", "next_seq", "until_seq", "durable_seq", "published_seq",
    "group", "gaps", "segment_no", "count", "rows", "delivered", "refused", "in_flight", "worker",
    "workers", "cpu", "pid", "uid", "port", "lives", "delay_ms", "timeout_s", "reserve_bytes",
    "sessions_terminated", "lines_dropped", "fields_dropped", "segments", "groups_read", "epoch",
    "last_group", "seconds", "slot",
})  # fmt: skip
_WORD = re.compile(r"[A-Za-z0-9_.:+-]{1,64}")
_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_PAIR = re.compile(r' (\w+)=("(?:[^"\\]|\\.)*"|[^\s"]*)')
_SENTENCE = re.compile(rf"([a-z][a-z0-9_]*)((?:{_PAIR.pattern})*)")


class MissingError(Exception):
    """A part cannot be had; the message says why."""


class Place(NamedTuple):
    """Where to look, and for how long."""

    paths: Paths
    config_file: str | None
    lines: int
    timeout_s: float


class Part(NamedTuple):
    """One file of the bundle."""

    name: str
    what: str
    make: Callable[[Place], bytes]


def _verb(*arguments: str) -> Callable[[Place], bytes]:
    """Have a verb of `certeus` make it, in a process of its own, which can be ended."""

    def make(place: Place) -> bytes:
        command = [sys.executable, "-P", "-m", "certeusd.cli", "--runtime-dir",
                   str(place.paths.runtime_dir), "--state-dir", str(place.paths.state_dir),
                   *arguments, "--json"]  # fmt: skip
        return json_text(_without_quotes(json.loads(run(command, place.timeout_s))))

    return make


def run(command: list[str], timeout_s: float) -> bytes:
    """Return what a program prints; its exit code does not matter as long as it prints something.

    Raises:
        MissingError: it is not there, takes too long, or only complains.
    """
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False,
            env={**systemd.child_environment(), "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0"},
        )  # fmt: skip
    except FileNotFoundError as error:
        raise MissingError(f"there is no {command[0]}") from error
    except subprocess.TimeoutExpired as error:
        raise MissingError(f"took longer than {timeout_s:g} s") from error
    if not done.stdout:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["printed nothing"]
        raise MissingError(lines[-1])
    return done.stdout[:OUTPUT_BYTES_MAX]


def json_text(content: object) -> bytes:
    """Return a JSON file's bytes."""
    return json.dumps(content, indent=1, ensure_ascii=False).encode() + b"\n"


def _without_quotes(content: Json) -> Json:
    """Leave out of a status what may quote the server: reports, and its reasons' text."""
    content.pop("reports", None)
    postgres = content.get("postgres")
    if isinstance(postgres, dict):
        cast(Json, postgres)["what"] = LEFT_OUT
    for reason in cast(list[Json], content.get("reasons", [])):
        if str(reason["code"]).startswith(("postgres-", "dead-letter")):
            reason["what"] = LEFT_OUT
    return cast(Json, _first_lines(content))


def _first_lines(value: object) -> object:
    """What an error says behind its first line is detail: rows, for instance."""
    if isinstance(value, str):
        return value.partition("\n")[0]
    if isinstance(value, list):
        return [_first_lines(one) for one in cast(list[object], value)]
    if isinstance(value, dict):
        return {key: _first_lines(one) for key, one in cast(Json, value).items()}
    return value


def _configured(place: Place) -> bytes:
    """Every key as files and variables have it now: also without a daemon."""
    try:
        loaded = config_sources.load(place.config_file)
    except ExitError as error:
        # The message may quote what was written in the wrong place.
        raise MissingError("cannot be read: `certeusd check` says why") from error
    keys = [one for one in config_shown.every(loaded.config, loaded.origins)]
    return json_text({"sources": loaded.sources, "keys": [
        {"key": one.key, "value": one.value, "origin": one.origin} for one in keys]})  # fmt: skip


def _metrics(place: Place) -> bytes:
    connection = http.client.HTTPConnection("localhost", timeout=place.timeout_s)
    try:
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.settimeout(place.timeout_s)
        connection.sock.connect(str(place.paths.control_socket))
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        if answer.status != 200:
            raise MissingError(f"the daemon answers {answer.status}")
        return answer.read(OUTPUT_BYTES_MAX)
    finally:
        connection.close()


def _versions(place: Place) -> bytes:
    try:
        first = run(["systemctl", "--version"], place.timeout_s).decode().splitlines()[0]
    except MissingError as error:
        first = str(error)
    packages = {str(one.metadata["Name"]): one.version for one in metadata.distributions()}
    return json_text({
        "certeus": __version__, "python": sys.version, "kernel": platform.release(),
        "machine": platform.machine(), "system": platform.freedesktop_os_release().get(
            "PRETTY_NAME", ""), "systemd": first, "libc": " ".join(platform.libc_ver()),
        "packages": dict(sorted(packages.items())),
    })  # fmt: skip


def _unit(place: Place) -> bytes:
    wanted = ",".join(UNIT_PROPERTIES)
    return run(["systemctl", "show", UNIT, f"--property={wanted}"], place.timeout_s)


def _journal(place: Place) -> bytes:
    text = run(["journalctl", f"--unit={UNIT}", f"--lines={place.lines}", "--output=json",
                "--no-pager", "--quiet"], place.timeout_s)  # fmt: skip
    records = (cast(Json, json.loads(line)) for line in text.splitlines())
    return b"".join(json.dumps(journal_line(one)).encode() + b"\n" for one in records)


def journal_line(record: Json) -> Json:
    """Return of one line of the journal what cannot quote anybody: words of ours, and numbers."""
    kept: Json = {"at_us": record.get("__REALTIME_TIMESTAMP"), "priority": record.get("PRIORITY"),
                  "pid": record.get("_PID")}  # fmt: skip
    message = str(record.get("MESSAGE", ""))
    if record.get("_PID") == "1":
        return kept | {"message": message}
    native = {key.lower().removeprefix("certeus_"): value
              for key, value in record.items() if key[:1] != "_"}  # fmt: skip
    for key, value in {**native, **_said(message)}.items():
        text = str(value)
        is_word = key in LOG_WORDS and _WORD.fullmatch(text)
        if is_word or (key in LOG_NUMBERS and _NUMBER.fullmatch(text)):
            kept[key] = value
    return kept


def _said(message: str) -> Json:
    """Read a line that a process of ours wrote: it names its role; another's has nothing to say."""
    try:
        given: object = json.loads(message)
    except ValueError:
        given = None
        if sentence := _SENTENCE.fullmatch(message):
            pairs = {key: value.strip('"') for key, value in _PAIR.findall(message)}
            given = {"event": sentence[1], **pairs}
    said = cast(Json, given) if isinstance(given, dict) else {}
    return said if "event" in said and said.get("role") in ROLES else {}


def _processes(place: Place) -> bytes:
    pids = sorted({*_pids(place.paths)})
    if not pids:
        raise MissingError("no process of certeusd is running")
    return json_text({"processes": [_process(pid) for pid in pids]})


def _pids(paths: Paths) -> Iterator[int]:
    """The supervisor, as its lock says, and its children, if they are there."""
    try:
        pid = int((paths.state_dir / "lock").read_text())
        if b"certeusd" in Path("/proc", str(pid), "cmdline").read_bytes():
            yield pid
            for task in Path("/proc", str(pid), "task").iterdir():
                yield from (int(one) for one in (task / "children").read_text().split())
    except (OSError, ValueError):
        return


def _process(pid: int) -> Json:
    found: Json = {"pid": pid}
    proc = Path("/proc", str(pid))
    try:
        lines = (line.partition(":") for line in (proc / "status").read_text().splitlines())
        found["status"] = {key: value.strip() for key, _, value in lines if key in PROC_STATUS}
        found["limits"] = (proc / "limits").read_text().splitlines()
        cgroup = (proc / "cgroup").read_text().splitlines()
        found["cgroup"] = cgroup
        unified = next((one[3:] for one in cgroup if one.startswith("0::")), "")
        folder = Path("/sys/fs/cgroup", unified.lstrip("/"))
        files = [folder / name for name in CGROUP_FILES if (folder / name).is_file()]
        found["cgroup_files"] = {one.name: one.read_text().splitlines() for one in files}
    except OSError as error:
        found["not_read"] = str(error.strerror)
    return found


PARTS = (
    Part("status.json", "state, positions, reasons", _verb("status")),
    Part("workers.json", "the workers", _verb("workers")),
    Part("followers.json", "who follows the log", _verb("followers")),
    Part("config-running.json", "every key that the daemon has, and its origin",
         _verb("config", "show")),
    Part("config-files.json", "every key that files and variables say now", _configured),
    Part("doctor.json", "what doctor finds", _verb("doctor")),
    Part("metrics.txt", "the metrics", _metrics),
    Part("log-ls.json", "the segments", _verb("log", "ls")),
    Part("log-check.json", "checksums, chain and numbers of the log", _verb("log", "check")),
    Part("versions.json", "kernel, systemd, Python and its packages", _versions),
    Part("unit.txt", "the state of the unit", _unit),
    Part("journal.ndjson", "the last lines of the journal: words and numbers of them", _journal),
    Part("processes.json", "limits and memory of the daemon's processes", _processes),
)  # fmt: skip


def secrets(place: Place, environ: Mapping[str, str] = os.environ) -> list[bytes]:
    """Return what must be nowhere in a bundle, as far as it can be read here."""
    found = list[str]()
    try:
        loaded = config_sources.load(place.config_file, environ)
    except ExitError:
        loaded = None
    if loaded is not None and loaded.dsn:
        parts = urlsplit(loaded.dsn)
        query = dict(parse_qsl(parts.query))
        found += [unquote(parts.password or ""), parts.password or ""]
        found += [query[name] for name in config_sources.PASSWORDS if name in query]
    file = loaded.config.postgres.password_file if loaded is not None else ""
    for path in (file, systemd.credential(config_sources.CREDENTIAL, environ)):
        try:
            found.append(Path(path).read_text().strip() if path else "")
        except (OSError, UnicodeDecodeError):
            continue
    try:
        key = place.paths.log_key.read_bytes()
    except OSError:
        key = b""
    every = [one.encode() for one in found] + [key, key.hex().encode()]
    return [one for one in every if len(one) >= SECRET_LENGTH_MIN]
