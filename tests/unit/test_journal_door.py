"""The journal's door without a daemon: where it goes on, what it asks journalctl, who it is."""

import asyncio
import contextlib
import json
import os
import signal
from pathlib import Path
from typing import Literal

import psutil
import pytest

from certeusd._native import DoorEncoder, JournalDecoder
from certeusd.config import JournalSection
from certeusd.config_sources import ConfigError, load
from certeusd.journal.journalctl import Journalctl, UnreadableError, boot_id, own_cgroup
from certeusd.journal.position import OLDEST, DamagedError, Position, PositionFile
from support import journals
from support.journals import JournalFile
from support.waiting import wait_until

CURSOR = "s=1d9f;i=1;b=0123;m=f4240;t=60a24181e4000;x=1507"
needs_journal = pytest.mark.skipif(bool(journals.why_not()), reason=journals.why_not() or "")


def test_a_position_is_what_was_saved_last(tmp_path: Path) -> None:
    file = PositionFile(tmp_path)
    assert file.load() is None
    for position in (OLDEST, Position(CURSOR, taken=False), Position(CURSOR, taken=True)):
        file.save(position)
        assert file.load() == position
    assert os.listdir(tmp_path / "doors") == ["journal"]


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"cursor":"s=1"}', '{"cursor":"s=1","taken":true,"version":2}',
     '{"cursor":"a b","taken":true}', '{"cursor":"s=1","taken":true,"more":1}'],
)  # fmt: skip
def test_what_is_no_position_is_told_and_never_guessed(tmp_path: Path, text: str) -> None:
    file = PositionFile(tmp_path)
    file.save(OLDEST)
    file.path.write_text(text)
    with pytest.raises(DamagedError):
        file.load()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0::/system.slice/certeus.service\n", "/system.slice/certeus.service"),
        ("0::/user.slice/user-1.slice/user@1.service/app.slice/c.service\n",
         "/user.slice/user-1.slice/user@1.service/app.slice/c.service"),
        ("1:name=systemd:/system.slice/certeus.service\n0::/\n", "/system.slice/certeus.service"),
        ("4:memory:/system.slice/certeus.service\n0::/\n", None),
        ("0::/user.slice/user-1.slice/session-3.scope\n", None),
        ("0::/\n", None),
    ],
)  # fmt: skip
def test_the_daemon_knows_its_own_entries_by_its_services_group(
    tmp_path: Path, text: str, expected: str | None
) -> None:
    path = tmp_path / "cgroup"
    path.write_text(text)
    assert own_cgroup(path) == expected
    assert own_cgroup(tmp_path / "none") is None


@pytest.mark.parametrize(
    "match", ["--directory=/", "-D", "a=1", "", "A", "A=1\nB=2", "/usr/bin/x", "__CURSOR=x"]
)
def test_a_match_that_journalctl_could_take_for_something_else_is_refused(
    tmp_path: Path, match: str
) -> None:
    file = tmp_path / "certeus.toml"
    file.write_text(f"[journal]\nmatches = {json.dumps([match])}\n")
    with pytest.raises(ConfigError, match=r"journal\.matches"):
        load(str(file), {})


def test_a_stream_that_is_no_journal_is_an_error_with_a_next_step() -> None:
    decoder = JournalDecoder(DoorEncoder(4096, "journal", []))
    with pytest.raises(ValueError, match="read it anew"):
        decoder.take(b"=\n")


def journal_of(directory: Path, since: Literal["now", "boot", "oldest"] = "oldest") -> Journalctl:
    return Journalctl(JournalSection(directory=str(directory), since=since))


def messages(journal: Journalctl, position: Position, count: int) -> list[bytes]:
    """Messages of the first entries from a position on."""

    async def read() -> list[bytes]:
        text = b""
        async with contextlib.aclosing(journal.blocks(position)) as blocks:
            async for block in blocks:
                text += block
                if text.count(b"\nMESSAGE=") >= count:
                    break
        return [line[8:] for line in text.split(b"\n") if line.startswith(b"MESSAGE=")]

    return asyncio.run(read())


@needs_journal
def test_the_first_start_begins_where_the_configuration_says(tmp_path: Path) -> None:
    file = JournalFile(tmp_path / "a.journal")
    file.write_numbers(0, 3)
    file.close()
    journal = journal_of(tmp_path)
    oldest = asyncio.run(journal.begin())
    assert oldest == OLDEST
    assert messages(journal, oldest, 3) == [b"0", b"1", b"2"]
    now = asyncio.run(journal_of(tmp_path, "now").begin())
    assert now.taken
    assert messages(journal, now, 1) == [b"2"]
    # Of this boot there is nothing yet.
    assert asyncio.run(journal_of(tmp_path, "boot").begin()) == now
    file = JournalFile(tmp_path / "a.journal")
    file.write_numbers(3, 2, boot=boot_id())
    file.close()
    boot = asyncio.run(journal_of(tmp_path, "boot").begin())
    assert not boot.taken
    assert messages(journal, boot, 2) == [b"3", b"4"]


@needs_journal
def test_only_what_matches_is_read(tmp_path: Path) -> None:
    file = JournalFile(tmp_path / "a.journal")
    for number, unit in enumerate((b"a", b"b", b"c", b"a")):
        file.write(number, MESSAGE=str(number).encode(), _SYSTEMD_UNIT=unit)
    file.close()
    matches = ("_SYSTEMD_UNIT=a", "+", "_SYSTEMD_UNIT=c")
    journal = Journalctl(JournalSection(directory=str(tmp_path), matches=matches))
    assert messages(journal, OLDEST, 3) == [b"0", b"2", b"3"]


@needs_journal
def test_an_empty_journal_begins_with_its_first_entry(tmp_path: Path) -> None:
    assert asyncio.run(journal_of(tmp_path, "now").begin()) == OLDEST


@needs_journal
def test_where_there_is_no_journal_the_reason_is_journalctls_own(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="No such file or directory"):
        asyncio.run(journal_of(tmp_path / "none", "now").begin())


def test_where_there_is_no_journalctl_it_is_told() -> None:
    journal = Journalctl(JournalSection(), "/nonexistent/journalctl")
    with pytest.raises(UnreadableError, match="cannot run /nonexistent/journalctl: No such file"):
        asyncio.run(journal.begin())


def program(tmp_path: Path, script: str) -> Journalctl:
    """A journalctl that does this."""
    path = tmp_path / "journalctl"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return Journalctl(JournalSection(), str(path))


def test_half_a_cursor_is_none(tmp_path: Path) -> None:
    journal = program(tmp_path, "printf __CURSOR=s=1")
    with pytest.raises(UnreadableError, match="printed no entry"):
        asyncio.run(journal.at(""))


def test_who_is_cancelled_while_journalctl_ends_is_cancelled(tmp_path: Path) -> None:
    """Its pipe is held open by somebody else: its end is waited for."""
    told = tmp_path / "pid"
    journal = program(
        tmp_path, f"cat <> {tmp_path}/fifo & echo $! $$ > {told}; echo __CURSOR=s=1; wait"
    )
    os.mkfifo(tmp_path / "fifo")

    def pids() -> list[int]:
        return [int(pid) for pid in told.read_text().split()] if told.exists() else []

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    async def main() -> None:
        before = descriptors()
        asking = asyncio.create_task(journal.at(""))
        holder, child = await asyncio.to_thread(wait_until, "both", pids)
        await asyncio.to_thread(wait_until, "its end", lambda: not psutil.pid_exists(child))
        asking.cancel()
        await asyncio.wait([asking])
        os.kill(holder, signal.SIGKILL)
        assert asking.cancelled()
        await asyncio.to_thread(wait_until, "closed pipes", lambda: descriptors() <= before)

    asyncio.run(main())
