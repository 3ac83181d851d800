"""The log writer as a process: one at a time, and it ends when its log fails."""

import contextlib
import os
import resource
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from certeusd import channel as channels
from certeusd import logs
from certeusd._native import LogFailedError, LogWriter
from certeusd.board import BOARD_BYTES
from certeusd.channel import Channel, Start
from certeusd.config import Config
from certeusd.exits import Exit
from certeusd.log import __main__ as process
from certeusd.log.__main__ import SmallFiles
from certeusd.log.follower import FollowerPosition
from certeusd.log.identity import Identity

if TYPE_CHECKING:
    from certeusd._native import LogOptions

OPTIONS: "LogOptions" = {
    "segment_bytes": 1 << 20,
    "group_bytes_max": 1 << 16,
    "group_records_max": 100,
    "linger_us": 0,
    "bytes_max": 1 << 23,
    "disk_reserve_bytes": 0,
    "retain_bytes": 0,
    "recycle": True,
    "dedup_keys": 100,
    "dedup_producers": 10,
    "follower_group": 0,
    "follower_seq": 0,
    "follower_root": bytes(32),
    "log_name": b"",
    "log_served": b"",
}


@pytest.fixture
def board_fd() -> Iterator[int]:
    descriptor = os.memfd_create("certeus-board", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, BOARD_BYTES)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    for name in ("log", "quarantine", "followers", "keys"):
        (tmp_path / name).mkdir()
    (tmp_path / "keys" / "log.key").write_bytes(bytes(32))
    return tmp_path


def test_a_second_log_writer_gets_nothing_while_the_first_one_lives(
    state_dir: Path, board_fd: int
) -> None:
    places = (state_dir / "log", state_dir / "quarantine")
    first = LogWriter(*places, board_fd, bytes(32), OPTIONS)
    with pytest.raises(BlockingIOError, match=f"LOCK is locked by pid {os.getpid()}"):
        LogWriter(*places, board_fd, bytes(32), OPTIONS)
    first.seal()
    del first
    second = LogWriter(*places, board_fd, bytes(32), OPTIONS)
    assert second.recovery()["epoch"] == 2
    second.seal()


def test_a_log_that_fails_ends_its_writer_with_a_code_of_its_own(
    state_dir: Path, board_fd: int
) -> None:
    bell = os.eventfd(0, os.EFD_CLOEXEC)
    channel, end = channels.pair()
    os.set_inheritable(end.fileno(), True)
    child = subprocess.Popen(
        [sys.executable, "-m", "certeusd.log", "--channel", str(end.fileno())],
        pass_fds=[end.fileno()],
        stderr=subprocess.PIPE,
    )
    end.close()
    # The kernel refuses to make any file longer than this: writing the first segment fails.
    resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (4096, 4096))
    with child, contextlib.closing(channel):
        start = Start("log", 0, Config(), str(state_dir), str(state_dir), "info", BOARD_BYTES)
        channel.send(start, [board_fd, bell])
        _, told = child.communicate(timeout=60)
        assert child.returncode == Exit.LOG_FAILED, told.decode()
        assert b"log_failed" in told
    os.close(bell)


def test_a_name_that_came_with_the_disk_is_not_missed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A fork that is opened under its old name delivers over what is another one's."""
    before = SmallFiles(bytes(32), FollowerPosition(), None, None)
    looks = iter([before, before._replace(named=Identity(uuid.uuid4()))])

    def look(_: Path) -> SmallFiles:
        return next(looks)

    def opened(*_: object) -> object:
        return object()

    monkeypatch.setattr(process, "read_small_files", look)
    monkeypatch.setattr(process, "LogWriter", opened)
    places = {"state_dir": str(tmp_path), "runtime_dir": str(tmp_path)}
    start = Start("log", 0, Config(), **places, log_level="info", board_bytes=BOARD_BYTES)
    with pytest.raises(LogFailedError, match="came back"):
        process.open_log(cast(Channel, None), start, 0, logs.configure("log"))
