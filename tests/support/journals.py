"""Journals to be read: files that the journal's own program makes of what a test writes."""

import json
import shutil
import subprocess
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from certeusd.board import BOARD_BYTES, Board
from support.daemon import Daemon
from support.waiting import wait_until

REMOTE = Path("/lib/systemd/systemd-journal-remote")
AWAY = '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n'
BOOT = "0123456789abcdef0123456789abcdef"
BEGIN_US = 1_700_000_000_000_000
WAIT_S = 60.0


def why_not() -> str | None:
    """Why no journal can be made here, or None."""
    if shutil.which("journalctl") is None:
        return "needs journalctl"
    return None if REMOTE.exists() else "needs systemd-journal-remote"


def exported(number: int, fields: Mapping[str, bytes], boot: str = BOOT) -> bytes:
    """An entry of the export format; the number gives its time."""
    head = (
        f"__REALTIME_TIMESTAMP={BEGIN_US + number * 1000}\n"
        f"__MONOTONIC_TIMESTAMP={1_000_000 + number * 1000}\n_BOOT_ID={boot}\n"
    )
    values = [
        b"%s\n%s%s\n" % (name.encode(), len(value).to_bytes(8, "little"), value)
        for name, value in fields.items()
    ]
    return head.encode() + b"".join(values) + b"\n"


class JournalFile:
    """One file of a journal, open for more entries until it is closed."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(exist_ok=True)
        self.path = path
        self._process = subprocess.Popen(
            [REMOTE, "-o", str(path), "-"],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def write(self, number: int, boot: str = BOOT, **fields: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(exported(number, fields, boot))
        self._process.stdin.flush()

    def write_numbers(self, first: int, count: int, boot: str = BOOT) -> None:
        for number in range(first, first + count):
            text = str(number).encode()
            self.write(number, boot, MESSAGE=text, _SYSTEMD_UNIT=b"test.service")

    def close(self) -> None:
        """What was written is in the file when this returns."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(WAIT_S) == 0


class SteadyWriter(threading.Thread):
    """Writes entries with dense numbers until it is ended."""

    def __init__(self, file: JournalFile, first: int = 0) -> None:
        super().__init__(name="journal")
        self._file = file
        self._ended = threading.Event()
        self.written = first
        """Numbers below it are written."""

    def run(self) -> None:
        while not self._ended.wait(0.002):
            self._file.write_numbers(self.written, 5)
            self.written += 5

    def end(self) -> None:
        self._ended.set()
        self.join(WAIT_S)
        assert not self.is_alive()
        self._file.close()


def config(directory: Path, more: str = "") -> str:
    """A door that reads a directory of journals, from the oldest entry on."""
    return f'{AWAY}[journal]\ndirectory = "{directory}"\nsince = "oldest"\n{more}\n'


def events(daemon: Daemon, *arguments: str) -> list[dict[str, Any]]:
    """What the log has of the journal."""
    text = daemon.certeus("tail", "--json", "--after-seq", "0", *arguments).stdout
    found = [json.loads(line) for line in text.splitlines()]
    return [one for one in found if one["source"] == "journal"]


def numbers(daemon: Daemon) -> list[int]:
    """Numbers of `write_numbers` in the order of the log."""
    return [int(one["data"]["MESSAGE"]) for one in events(daemon) if one["type"] == "journal"]


def wait_for_events(daemon: Daemon, count: int) -> None:
    """Until so many events are durable."""
    wait_until(f"{count} events", lambda: daemon.status()["durable_seq"] >= count, WAIT_S)


def reason(daemon: Daemon, code: str) -> dict[str, Any] | None:
    """A reason that status has."""
    found = [one for one in daemon.status()["reasons"] if one["code"] == code]
    return found[0] if found else None


def board_of(daemon: Daemon) -> Board:
    """The board of a running daemon, as its processes see it."""
    assert daemon.process is not None
    for one in Path(f"/proc/{daemon.process.pid}/fd").iterdir():
        try:
            found = one.stat().st_size == BOARD_BYTES
        except OSError:
            continue
        if found:
            with one.open("r+b") as file:
                return Board(file.fileno())
    raise AssertionError("the supervisor has no board")
