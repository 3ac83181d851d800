"""The journal's door against a real certeusd and real journal files: each entry once, in order."""

import base64
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from certeusd.journal.journalctl import boot_id
from support import journals
from support.daemon import Daemon, scratch_dir
from support.journals import (
    BOOT,
    JournalFile,
    config,
    events,
    numbers,
    reason,
    wait_for_events,
)
from support.waiting import wait_until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(bool(journals.why_not()), reason=journals.why_not() or ""),
]

WAIT_S = 60.0
MIB = 1 << 20
ATTRIBUTES = ("source", "type", "subject", "time", "tenant")


@pytest.fixture
def root() -> Iterator[Path]:
    with scratch_dir() as root:
        yield root


@pytest.fixture
def journal(root: Path) -> Path:
    """The directory of its files."""
    (root / "journal").mkdir()
    return root / "journal"


@pytest.fixture
def file(journal: Path) -> Iterator[JournalFile]:
    """The first of them, open for more."""
    file = JournalFile(journal / "a.journal")
    yield file
    file.close()


@pytest.fixture
def daemon(root: Path, journal: Path) -> Iterator[Daemon]:
    """One that reads them, not started."""
    daemon = Daemon(root, config(journal), doors=["journal"])
    try:
        yield daemon
    finally:
        daemon.clean_up()


def filled(path: Path, first: int, count: int) -> None:
    file = JournalFile(path)
    file.write_numbers(first, count)
    file.close()


def position_path(daemon: Daemon) -> Path:
    return daemon.state_dir / "doors" / "journal"


def position(daemon: Daemon) -> dict[str, object]:
    told: dict[str, object] = json.loads(position_path(daemon).read_bytes())
    return told


def wait_for_position(daemon: Daemon, cursor: object) -> None:
    def there() -> bool:
        return position_path(daemon).exists() and position(daemon)["cursor"] == cursor

    wait_until("a saved position", there, WAIT_S)


def test_an_entry_is_an_event_with_its_fields(daemon: Daemon, file: JournalFile) -> None:
    daemon.start()
    large = b"x" * MIB
    file.write(0, MESSAGE="grüße\n\ttwo lines".encode(), SYSLOG_IDENTIFIER=b"cron", RAW=b"\xff\x00")
    file.write(1, MESSAGE=b"crashed", _SYSTEMD_UNIT=b"big.service", COREDUMP=large)
    wait_for_events(daemon, 2)
    first, second = events(daemon)
    assert {name: first[name] for name in ATTRIBUTES} == {
        "source": "journal", "type": "journal", "subject": "cron", "tenant": "default",
        "time": "2023-11-14T22:13:20.000000Z",
    }  # fmt: skip
    assert first["data"] == {
        "MESSAGE": "grüße\n\ttwo lines", "SYSLOG_IDENTIFIER": "cron", "_BOOT_ID": BOOT,
        "RAW": {"base64": base64.b64encode(b"\xff\x00").decode()},
    }  # fmt: skip
    data = second["data"]
    assert (data["MESSAGE"], data["certeus_cut"]) == ("crashed", {"COREDUMP": MIB})
    assert 1 <= len(data["COREDUMP"]) < MIB
    wait_for_position(daemon, second["id"])
    assert daemon.stop() == 0


def test_restarts_lose_and_double_nothing(daemon: Daemon, file: JournalFile) -> None:
    for life in range(3):
        file.write_numbers(100 * life, 50)
        daemon.start()
        file.write_numbers(100 * life + 50, 50)
        wait_for_events(daemon, 100 * (life + 1))
        assert numbers(daemon) == list(range(100 * (life + 1)))
        assert daemon.stop() == 0
        # What was settled is behind the position, too: nothing is even read again.
        assert position(daemon)["cursor"] == events(daemon)[-1]["id"]


def test_an_older_position_doubles_nothing(daemon: Daemon, journal: Path) -> None:
    filled(journal / "a.journal", 0, 500)
    daemon.start()
    wait_for_events(daemon, 500)
    ids = [one["id"] for one in events(daemon)]
    assert daemon.stop() == 0
    for cursor, taken in (("", False), (ids[100], False), (ids[200], True)):
        text = json.dumps({"cursor": cursor, "taken": taken, "version": 1})
        position_path(daemon).write_text(text)
        daemon.start()
        wait_for_position(daemon, ids[-1])
        assert daemon.stop() == 0
        assert numbers(daemon) == list(range(500))


def test_the_position_never_passes_what_is_durable(daemon: Daemon, file: JournalFile) -> None:
    file.write_numbers(0, 10)
    daemon.start()
    wait_for_events(daemon, 10)
    wait_for_position(daemon, events(daemon)[-1]["id"])
    before = position(daemon)
    daemon.kill("log", signal.SIGSTOP)
    file.write_numbers(10, 10)
    board = journals.board_of(daemon)
    wait_until("events in the ring", lambda: board.get("journal", "events_total") > 10, WAIT_S)
    began = board.get("journal", "heartbeat_ns")
    # Beats in which it would be saved.
    wait_until(
        "beats", lambda: board.get("journal", "heartbeat_ns") > began + 3_000_000_000, WAIT_S
    )
    assert position(daemon) == before
    daemon.kill("all")
    daemon.start()
    wait_for_events(daemon, 20)
    assert numbers(daemon) == list(range(20))
    assert daemon.stop() == 0


def test_while_the_log_stands_still_the_journal_waits(daemon: Daemon, file: JournalFile) -> None:
    daemon.start()
    (pid,) = daemon.pids("journal")
    daemon.kill("log", signal.SIGSTOP)
    pad = b"p" * 8192
    count = 3000
    for number in range(count):
        file.write(number, MESSAGE=str(number).encode(), PAD=pad)
    door = psutil.Process(pid)
    board = journals.board_of(daemon)
    wait_until("a block on its way", lambda: board.get("journal", "events_total"), WAIT_S)
    began = board.get("journal", "heartbeat_ns")
    wait_until(
        "beats", lambda: board.get("journal", "heartbeat_ns") > began + 2_000_000_000, WAIT_S
    )
    assert board.get("journal", "events_total") < count / 2
    assert door.memory_info().rss < 160 * MIB
    daemon.kill("log", signal.SIGCONT)
    wait_for_events(daemon, count)
    assert numbers(daemon) == list(range(count))
    assert daemon.stop() == 0


def test_a_journal_that_cannot_be_read_is_told_and_tried_again(
    daemon: Daemon, journal: Path
) -> None:
    journal.rmdir()
    daemon.start()
    wait_until("a reason", lambda: reason(daemon, "journal-unreadable"), WAIT_S)
    told = reason(daemon, "journal-unreadable")
    assert told is not None
    assert "No such file or directory" in told["what"]
    assert "systemd-journal" in told["next"]
    (pid,) = daemon.pids("journal")
    filled(journal / "a.journal", 0, 3)
    wait_for_events(daemon, 3)
    wait_until("no reason", lambda: not reason(daemon, "journal-unreadable"), WAIT_S)
    assert daemon.pids("journal") == [pid]
    assert daemon.stop() == 0


def test_entries_that_the_journal_let_go_are_a_gap(daemon: Daemon, journal: Path) -> None:
    filled(journal / "a.journal", 0, 10)
    daemon.start()
    wait_for_events(daemon, 10)
    last = events(daemon)[-1]["id"]
    wait_for_position(daemon, last)
    assert daemon.stop() == 0
    assert reason_codes(daemon) == []
    (journal / "a.journal").unlink()
    filled(journal / "b.journal", 20, 5)
    for _ in range(2):
        daemon.start()
        wait_for_events(daemon, 16)
        assert numbers(daemon) == [*range(10), *range(20, 25)]
        gaps = [one for one in events(daemon) if one["type"] == "journal.gap"]
        assert [(one["id"], one["data"]) for one in gaps] == [(f"gap:{last}", {"after": last})]
        # Once: the next start goes on from an entry that is there.
        daemon.stop()


def test_behind_a_gap_a_new_boot_is_read_from_its_beginning_whatever_its_clock_said(
    daemon: Daemon, journal: Path
) -> None:
    """The journal was in memory, and the clock is behind until it is set."""
    filled(journal / "a.journal", 100, 10)
    daemon.start()
    wait_for_events(daemon, 10)
    wait_for_position(daemon, events(daemon)[-1]["id"])
    assert daemon.stop() == 0
    (journal / "a.journal").unlink()
    file = JournalFile(journal / "b.journal")
    file.write_numbers(90, 5, boot=boot_id())
    file.write_numbers(150, 5, boot=boot_id())
    file.close()
    daemon.start()
    wait_for_events(daemon, 21)
    assert numbers(daemon) == [*range(100, 110), *range(90, 95), *range(150, 155)]
    assert daemon.stop() == 0


def test_a_journal_that_can_be_asked_and_not_followed_is_told_once(
    daemon: Daemon, file: JournalFile, root: Path
) -> None:
    """As where there are no inotify instances left."""
    program = root / "bin" / "journalctl"
    program.parent.mkdir()
    tried = root / "tried"
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *--follow*) echo >> {tried}; echo "no room" >&2; exit 1;; esac\n'
    )
    program.chmod(0o755)
    daemon.env["PATH"] = f"{program.parent}:{daemon.env['PATH']}"
    daemon.start()
    wait_until("tries", lambda: tried.exists() and tried.stat().st_size > 4, WAIT_S)
    told = reason(daemon, "journal-unreadable")
    assert told is not None
    assert "no room" in told["what"]
    assert reason_codes(daemon) == ["journal-unreadable"]
    file.write_numbers(0, 3)
    program.unlink()
    wait_for_events(daemon, 3)
    wait_until("no reason", lambda: not reason(daemon, "journal-unreadable"), WAIT_S)
    assert daemon.stop() == 0


def reason_codes(daemon: Daemon) -> list[str]:
    lines = [json.loads(line) for line in daemon.log_path.read_text().splitlines()]
    return [
        one["code"]
        for one in lines
        if one["event"] == "reason_entered" and one["code"].startswith("journal")
    ]


def test_a_damaged_position_is_told_and_nothing_is_guessed(daemon: Daemon, journal: Path) -> None:
    filled(journal / "a.journal", 0, 10)
    daemon.start()
    wait_for_events(daemon, 10)
    assert daemon.stop() == 0
    position_path(daemon).write_text("{")
    filled(journal / "b.journal", 10, 10)
    daemon.start()
    wait_until("a reason", lambda: reason(daemon, "journal-position-damaged"), WAIT_S)
    assert daemon.status()["durable_seq"] == 10
    position_path(daemon).unlink()
    wait_for_events(daemon, 20)
    assert numbers(daemon) == list(range(20))
    assert daemon.stop() == 0


def test_a_restored_backup_goes_on_behind_its_log(
    daemon: Daemon, file: JournalFile, root: Path
) -> None:
    file.write_numbers(0, 100)
    daemon.start()
    wait_for_events(daemon, 100)
    wait_for_position(daemon, events(daemon)[-1]["id"])
    daemon.certeus("backup", "create", "--with-key", str(root / "copy"))
    file.write_numbers(100, 100)
    wait_for_events(daemon, 200)
    assert daemon.stop() == 0
    daemon.state_dir.rename(root / "lost")
    daemon.certeus("backup", "restore", str(root / "copy"))
    daemon.start()
    wait_for_events(daemon, 200)
    assert numbers(daemon) == list(range(200))
    assert daemon.stop() == 0
