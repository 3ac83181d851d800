"""`certeus pipe --follow`: what else has, had, or gets the name of the file that is followed."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from certeusd.cli.pipe_file import LINGER_S, READINGS_MAX, Piece
from certeusd.cli.pipe_reading import Reading, current_entry
from support.following import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.follower.close(clean=True)


@pytest.mark.parametrize("restart", [False, True])
def test_what_was_copied_away_before_anything_was_read_comes_first(
    restart: bool, world: World
) -> None:
    world.append(b"")
    assert world.lines() == []
    for number in (b"1", b"2", b"3"):
        if restart:
            world.restart()
        world.append(b"a" + number + b"\n")
        copy = world.path.with_name(f"app.log-2026010{number.decode()}")
        shutil.copyfile(world.path, copy)
        os.truncate(world.path, 0)
        world.append(b"b\n")
        assert world.lines() == [b"a" + number, b"b"]
        os.truncate(world.path, 0)
        assert world.lines() == []
    assert world.follower.lost == 0


def test_a_copy_before_the_file_is_cut_is_not_read_twice(world: World) -> None:
    world.append(b"")
    assert world.lines() == []
    world.append(b"a\n")
    shutil.copyfile(world.path, world.path.with_name("app.log.1"))
    world.restart()
    assert world.lines() == [b"a"]
    os.truncate(world.path, 0)
    world.append(b"c\n")
    assert world.lines() == [b"c"]


def test_what_is_copied_away_between_looking_and_reading_comes_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.append(b"")
    assert world.lines() == []
    whole = Reading.read

    def late(self: Reading) -> object:
        if self.unread and not world.path.with_name("app.log.1").exists():
            world.path.with_name("app.log.1").write_bytes(b"a\n")
            world.append(b"b\n")
        return whole(self)

    monkeypatch.setattr(Reading, "read", late)
    assert world.lines() == [b"a", b"b"]


def test_a_file_with_two_names_is_read_once(world: World, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    world.follower.close(clean=True)
    world.path = tmp_path / "link" / "app.log"
    world.start()
    world.append(b"1\n")
    assert world.lines() == [b"1"]
    for day in (2, 3, 4):
        rotated = world.path.with_name(f"app.log-2026010{day}")
        world.path.rename(rotated)
        os.link(rotated, rotated.with_name(f"app.log.{9 - day}"))
        os.link(rotated, rotated.with_name(f"a hand's copy {day}"))
        world.append(b"%d\n" % day)
    world.restart()
    assert world.lines() == [b"2", b"3", b"4"]
    world.restart()
    assert world.lines() == []
    assert world.told == []


@pytest.mark.parametrize("restart", [False, True])
def test_a_file_that_was_done_with_is_read_on_when_it_is_at_the_path_again(
    restart: bool, world: World
) -> None:
    world.append(b"1\n")
    assert world.lines() == [b"1"]
    world.path.rename(world.path.with_name("app.log.1"))
    world.append(b"2\n")
    assert world.lines() == [b"2"]
    world.now = LINGER_S
    assert world.lines() == []
    world.path.unlink()
    world.path.with_name("app.log.1").rename(world.path)
    world.append(b"3\n")
    if restart:
        world.restart()
    assert world.lines() == [b"3"]
    assert world.follower.has_file
    assert not world.follower.waiting
    world.append(b"4\n")
    assert world.lines() == [b"4"]
    world.restart()
    assert world.lines() == []


def test_the_newest_file_is_read_on_also_when_it_was_not_open(world: World) -> None:
    world.append(b"1\n")
    assert world.lines() == [b"1"]
    world.path.rename(world.path.with_name("app.log.1"))
    world.restart()
    assert world.lines() == []
    world.now = LINGER_S
    assert world.lines() == []
    world.path.with_name("app.log.1").rename(world.path)
    world.append(b"2\n")
    assert world.lines() == [b"2"]
    assert not world.follower.waiting


def test_a_file_from_before_the_first_start_is_read_when_it_comes_to_the_path(
    world: World,
) -> None:
    world.append(b"1\n", "app.log.1")
    assert world.lines() == []
    world.path.with_name("app.log.1").rename(world.path)
    assert world.lines() == [b"1"]
    assert not world.follower.waiting


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("line", [b"short", b"x" * 1023])
def test_a_file_that_is_put_back_under_another_inode_is_read_on(
    line: bytes, restart: bool, world: World
) -> None:
    world.append(line + b"\n")
    assert world.lines() == [line]
    if restart:
        world.restart()
    copy = world.path.with_name("copy")
    shutil.copy2(world.path, copy)
    copy.rename(world.path)
    assert world.lines() == []
    world.append(b"new\n")
    assert world.lines() == [b"new"]
    world.restart()
    assert world.lines() == []
    assert (world.told, world.follower.lost) == ([], 0)


def test_a_file_that_only_begins_with_the_same_line_is_another_one(world: World) -> None:
    world.append(b"begin\n")
    os.utime(world.path, (1, 1))
    assert world.lines() == [b"begin"]
    (world.path.parent / "elsewhere").mkdir()
    world.path.rename(world.path.parent / "elsewhere" / "kept")
    world.restart()
    world.append(b"begin\nnew\n")
    assert world.lines() == [b"begin", b"new"]


def test_rotated_files_are_opened_a_few_at_a_time(world: World) -> None:
    world.append(b"begin\n")
    assert world.lines() == [b"begin"]
    for number in range(3 * READINGS_MAX):
        world.path.rename(world.path.with_name(f"app.log-{number:04}"))
        world.append(b"%d\nhalf" % number)
    world.restart()
    found: list[bytes | None] = []
    while (piece := world.follower.step()) is not None:
        mine = [os.path.realpath(f"/proc/self/fd/{one}") for one in os.listdir("/proc/self/fd")]
        assert sum(str(world.path) in one for one in mine) <= READINGS_MAX
        found += piece.chunk.cut.lines
        world.follower.before_offer(piece.reading)
        world.follower.settled(piece.reading.generation, piece.chunk.mark)
    whole = [one for one in found if one != b"half"]
    assert whole == [b"%d" % number for number in range(3 * READINGS_MAX)]
    assert not world.follower.waiting
    world.restart()
    assert world.lines() == []


def test_room_for_another_file_waits_for_verdicts(world: World) -> None:
    world.append(b"begin\n")
    assert world.lines() == [b"begin"]
    for number in range(READINGS_MAX + 1):
        world.path.rename(world.path.with_name(f"app.log-{number:04}"))
        world.append(b"%d\n" % number)
    world.restart()
    pieces: list[Piece] = []
    while (piece := world.follower.step()) is not None:
        world.follower.before_offer(piece.reading)
        pieces.append(piece)
    assert world.follower.waiting
    for piece in pieces:
        world.follower.settled(piece.reading.generation, piece.chunk.mark)
    found = [piece.chunk.cut.lines[0] for piece in pieces] + world.lines()
    assert found == [b"%d" % number for number in range(READINGS_MAX + 1)]


def test_files_that_come_and_go_beside_it_hide_no_rotation(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.append(b"1\n")
    assert world.lines() == [b"1"]
    listed, count = os.listdir, 0

    def busy(path: str) -> list[str]:
        nonlocal count
        count += 1
        world.append(b"", f"message-{count}")
        return listed(path)

    monkeypatch.setattr("os.listdir", busy)
    world.path.rename(world.path.with_name("app.log.1"))
    world.append(b"2\n")
    assert world.lines() == [b"2"]
    assert not world.follower.waiting


def test_the_same_inode_of_another_device_is_another_file(world: World) -> None:
    world.append(b"1\n")
    piece = world.follower.step()
    here = current_entry(str(world.path))
    assert piece is not None
    assert here is not None
    assert here.device == world.path.stat().st_dev
    assert piece.reading.is_of(here)
    assert not piece.reading.is_of(here._replace(device=here.device + 1))


def test_the_first_file_ever_may_be_rotated_before_it_is_seen(world: World) -> None:
    assert world.lines() == []
    world.append(b"1\n")
    world.path.rename(world.path.with_name("app.log.1"))
    world.append(b"2\n")
    assert world.lines() == [b"1", b"2"]
