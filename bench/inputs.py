"""Real input of this machine for `make run`: its journal, its logs, its package index.

Nothing is made up: a machine that has not logged enough gives the package index, again and again if
need be, each time under other ids.
"""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

EVENTS_MIN = 50_000
JOURNAL_ENTRIES_MAX = 200_000
LOG_FILES = (
    "dpkg.log*", "apt/*.log", "alternatives.log*", "syslog", "messages", "kern.log", "daemon.log",
    "auth.log", "bootstrap.log", "cloud-init*.log", "installer/*log",
)  # fmt: skip


class Record(NamedTuple):
    """One event to be: its type, its JSON bytes, and a key if it has one of its own."""

    type: str
    data: bytes
    id: str | None = None
    subject: str | None = None


def encode(value: object) -> bytes:
    """JSON without needless bytes."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def of_file(path: Path) -> Iterator[Record]:
    """The lines of one file: as they are when they are JSON by name, else as text with a number."""
    is_json = path.suffix in {".json", ".jsonl", ".ndjson"}
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            line = line.rstrip(b"\r\n")
            if line and is_json:
                yield Record("line", line)
            elif line:
                yield Record("line", text_line(path, number, line))


def text_line(path: Path, number: int, line: bytes) -> bytes:
    """One line of a log as JSON; bytes that are no UTF-8 become the replacement character."""
    text = line.decode(errors="replace")
    return encode({"file": str(path), "line": number, "text": text})


def of_journal() -> Iterator[Record]:
    """The newest entries of the journal, each as journalctl writes it."""
    if shutil.which("journalctl") is None:
        return
    command = ["journalctl", "--output=json", "--no-pager", f"--lines={JOURNAL_ENTRIES_MAX}"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
    ) as journal:
        assert journal.stdout is not None
        for line in journal.stdout:
            if line.startswith(b"{"):
                yield Record("journal", line.rstrip(b"\n"))


def of_logs(directory: Path = Path("/var/log")) -> Iterator[Record]:
    """The lines of what package manager and system have logged in plain text."""
    paths = {path for pattern in LOG_FILES for path in directory.glob(pattern)}
    for path in sorted(paths):
        if path.suffix in {".gz", ".xz", ".zst"}:
            continue
        try:
            with path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    if line := line.rstrip():
                        yield Record("log", text_line(path, number, line), subject=path.name)
        except PermissionError:
            continue


def of_packages() -> Iterator[Record]:
    """The records of the Debian package index: all packages, else the installed ones."""
    for source in (_dumpavail, _lists, _installed):
        empty = True
        for stanza in stanzas(source()):
            empty = False
            name, version = stanza.get("Package", "?"), stanza.get("Version", "?")
            key = f"{name}_{version}_{stanza.get('Architecture', '?')}"
            yield Record("package", encode(stanza), id=key, subject=name)
        if not empty:
            return


def stanzas(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    """Parse Debian control data: ``Field: value``, folded lines, blank lines between records."""
    stanza: dict[str, str] = {}
    field = ""
    for line in lines:
        line = line.rstrip("\n")
        if not line:
            if stanza:
                yield stanza
            stanza, field = {}, ""
        elif line[0] in " \t" and field:
            stanza[field] += "\n" + line[1:]
        elif ":" in line:
            field, value = line.split(":", 1)
            stanza[field] = value.strip()
    if stanza:
        yield stanza


def _dumpavail() -> Iterator[str]:
    if shutil.which("apt-cache") is None:
        return
    with subprocess.Popen(
        ["apt-cache", "dumpavail"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL, text=True, errors="replace",
    ) as cache:  # fmt: skip
        assert cache.stdout is not None
        yield from cache.stdout


def _lists() -> Iterator[str]:
    for path in sorted(Path("/var/lib/apt/lists").glob("*_Packages")):
        with path.open(errors="replace") as file:
            yield from file
        yield "\n"


def _installed() -> Iterator[str]:
    path = Path("/var/lib/dpkg/status")
    if path.exists():
        with path.open(errors="replace") as file:
            yield from file


def of_machine(run: str, say: Callable[[str], None]) -> Iterator[Record]:
    """At least ``EVENTS_MIN`` records of this machine; ids begin with ``run``, so a run is new.

    Args:
        run: what tells the ids of this run from those of another.
        say: is told where records come from, one sentence each.
    """
    total = 0
    for name, source in (("the journal", of_journal), ("/var/log", of_logs)):
        count = 0
        for record in source():
            count += 1
            yield record
        total += count
        if count:
            say(f"{count:,} records of {name}")
    round_ = 0
    while round_ == 0 or total < EVENTS_MIN:
        round_ += 1
        count = 0
        for record in of_packages():
            count += 1
            yield record._replace(id=f"{run}/{round_}/{record.id}")
        if count == 0:
            say("no package index here: this is all there is")
            return
        total += count
        again = f", time {round_}, under other ids" if round_ > 1 else ""
        say(f"{count:,} records of the package index{again}")
