"""Room on the disk: what `status` says of it, and when nothing is sent to PostgreSQL."""

import asyncio
import contextlib
import os
import resource
import subprocess
import sys
from pathlib import Path
from unittest.mock import create_autospec

import pytest

from certeusd import channel as channels
from certeusd.board import BOARD_BYTES
from certeusd.channel import Drain, Message, Ready, Start, State
from certeusd.config import Config, LogSection
from certeusd.exits import Exit
from certeusd.flush.reasons import Reasons
from certeusd.flush.room import CODE, Room, shared_reserve_bytes
from certeusd.logs import Logger
from certeusd.supervisor import room

MIB = 1 << 20


def paused(frees: list[int]) -> tuple[list[Message], list[int]]:
    """Wait for room while the disk says one of `frees` after the other; what is told, what left."""
    told: list[Message] = []
    log = create_autospec(Logger, instance=True)
    reasons = Reasons(told.append)
    left = list(frees)
    waiting = Room(Path("/"), 1000, reasons, log, lambda _: left[0])

    async def idle() -> None:
        left.pop(0)

    asyncio.run(waiting.wait(idle, lambda: False))
    return told, left


def test_flusher_pauses_at_a_quarter_of_the_reserve_and_goes_on_at_half() -> None:
    assert paused([250, 0])[1] == [250, 0]
    told, left = paused([249, 250, 499, 0, 500, 1])
    assert left == [500, 1]
    assert [(m.code, m.active) for m in told if isinstance(m, State)] == [
        (CODE, True),
        (CODE, False),
    ]


def test_pause_ends_with_the_flusher() -> None:
    log = create_autospec(Logger, instance=True)
    waiting = Room(Path("/"), 1000, Reasons(lambda _: None), log, lambda _: 0)
    ended: list[bool] = []

    async def idle() -> None:
        ended.append(True)

    assert not asyncio.run(waiting.wait(idle, lambda: len(ended) > 2))


def test_only_a_server_of_ours_on_the_logs_disk_shares_the_reserve(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    assert shared_reserve_bytes(tmp_path, 7, "") == 0
    (tmp_path / "postgres").mkdir()
    assert shared_reserve_bytes(tmp_path, 7, "") == 7
    assert shared_reserve_bytes(tmp_path, 7, "postgresql://elsewhere/db") == 0


@pytest.mark.parametrize(
    ("full", "short", "code"),
    [(False, False, None), (True, False, "log-full"), (False, True, "disk-low"),
     (True, True, "disk-full")],
)  # fmt: skip
def test_status_tells_the_bound_of_the_log_from_want_of_disk(
    full: bool, short: bool, code: str | None
) -> None:
    assert room.reason(full=full, short=short) == code


@pytest.mark.crash
@pytest.mark.timeout(120)
def test_log_writer_that_starts_without_room_waits_in_its_process_for_it(tmp_path: Path) -> None:
    """A file system of 6 MiB, and a segment of 4 MiB beside somebody else's 5 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounts a tiny file system: needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)]
    if subprocess.run(mounting, check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("this machine lets nobody mount a tmpfs")
    try:
        wait_for_room(disk)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def wait_for_room(state_dir: Path) -> None:
    for name in ("log", "quarantine", "followers", "keys"):
        (state_dir / name).mkdir()
    (state_dir / "keys" / "log.key").write_bytes(bytes(32))
    (state_dir / "others").write_bytes(bytes(5 * MIB))
    board = os.memfd_create("certeus-board", os.MFD_CLOEXEC)
    os.ftruncate(board, BOARD_BYTES)
    bell = os.eventfd(0, os.EFD_CLOEXEC)
    channel, end = channels.pair()
    os.set_inheritable(end.fileno(), True)
    command = [sys.executable, "-m", "certeusd.log", "--channel", str(end.fileno())]
    child = subprocess.Popen(command, pass_fds=[end.fileno()], stderr=subprocess.DEVNULL)
    end.close()
    resource.prlimit(child.pid, resource.RLIMIT_CORE, (0, 0))
    with child, contextlib.closing(channel):
        log = LogSection(segment_bytes=4 * MIB, disk_reserve_bytes=0)
        config, place = Config(log=log), str(state_dir)
        channel.setblocking(True)
        channel.send(Start("log", 0, config, place, place, "info", BOARD_BYTES), [board, bell])
        told = receive(channel)
        assert isinstance(told, State), told
        assert (told.code, told.active) == ("disk-full", True)
        (state_dir / "others").unlink()
        while told == (told := receive(channel)) or (isinstance(told, State) and told.active):
            pass
        assert told == State("disk-full", active=False)
        while not isinstance(told, Ready):
            told = receive(channel)
        channel.send(Drain())
        assert child.wait(60) == Exit.OK
    os.close(board)
    os.close(bell)


def receive(channel: channels.Channel) -> Message:
    received = channel.receive()
    assert received is not None
    return received[0]
