"""`certeus pipe`: lines of blocks, which files to read after a rotation, what is kept of them."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certeusd.cli.appending import Complaints, Cutter
from certeusd.cli.pipe_file import LINGER_S, READINGS_MAX
from certeusd.cli.pipe_positions import (
    Generation,
    PositionFile,
    Positions,
    default_file,
    digest,
)
from certeusd.cli.pipe_reading import Reading, Truncated, agrees, same, scan
from certeusd.cli.pipe_rotation import Entry, is_compressed, is_rotated, look, oldest_first, rank
from certeusd.cli.pipe_session import Manner
from certeusd.exits import Exit, ExitError
from support.following import BASE, World


@given(st.lists(st.binary(max_size=12).map(lambda part: part.replace(b"\x00", b"\n"))))
def test_lines_and_where_they_begin_do_not_depend_on_the_blocks(blocks: list[bytes]) -> None:
    cutter = Cutter(100, line_bytes_max=8)
    lines: list[bytes | None] = []
    starts: list[int] = []
    for block in blocks:
        cut = cutter.feed(block)
        lines += cut.lines
        starts += cut.starts
    last = cutter.finish()
    whole = b"".join(blocks).split(b"\n")
    if not whole[-1]:
        whole.pop()
    assert [*lines, *last.lines] == [
        line.removesuffix(b"\r") if len(line) <= 8 else None for line in whole
    ]
    expected = [100 + sum(len(line) + 1 for line in whole[:n]) for n in range(len(whole))]
    assert [*starts, *last.starts] == expected


def test_a_line_without_end_is_not_held() -> None:
    cutter = Cutter(line_bytes_max=8)
    for _ in range(1000):
        assert cutter.feed(b"x" * 100) == ([], [])
    assert cutter.feed(b"\nnext\n") == ([None, b"next"], [0, 100_001])


def test_complaints_begin_anew_after_a_while() -> None:
    told: list[str] = []
    now = 0.0
    complaints = Complaints(told.append, 60.0, lambda: now)
    for number in range(30):
        complaints.say(str(number))
    assert told == [str(number) for number in range(20)]
    now = 60.0
    complaints.say("new")
    assert told[20:] == ["and 10 more", "new"]
    complaints.finish()
    assert told[22:] == []


@pytest.mark.parametrize(
    ("name", "rotated"),
    [
        ("app.log.1", True), ("app.log.23", True), ("app.log-20261122", True),
        ("app-20261122.log", True), ("app.1.log", True), ("app.log.2026-11-22_10:00", True),
        ("app.log", False), ("app.log.bak", False), ("app.log.1.gz", False),
        ("other.log.1", False), ("app.log.old1", False), ("apple.log", False),
        ("app2.log", False), ("app20261122.log", False), ("app-2.log", False),
        ("app_22.log", False), ("app.log2", False), ("app.1.2.log", False),
        ("app-2026-11-22.log", True),
    ],
)  # fmt: skip
def test_names_that_rotation_gives(name: str, rotated: bool) -> None:
    assert is_rotated(name, BASE) is rotated


def test_compressed_names_and_ranks() -> None:
    assert is_compressed("app.log.2.gz", BASE)
    assert not is_compressed("app.log.bak.gz", BASE)
    assert [rank(name, BASE) for name in ("app.log.12", "app.log.20261122", "app.log-1")] == [
        12, 0, 0,
    ]  # fmt: skip


def entry(name: str, inode: int, mtime: int = 0, size: int = 100) -> Entry:
    return Entry(f"/d/{name}", name, inode, size, mtime)


def generation(inode: int, mtime: int = 0, **more: object) -> Generation:
    made = Generation(f"t{inode}", inode, "/d", position=10, head_bytes=100, mtime_ns=mtime)
    for name, value in more.items():
        setattr(made, name, value)
    return made


CURRENT = entry(BASE, 9, 90)
# generations, rotated files beside inode 9 at the path, files whose content does not agree;
# who is placed where, who is unseen, who is lost
TABLE: dict[
    str,
    tuple[list[Generation], list[Entry], set[int], dict[str, int], list[str], list[str]],
] = {
    "nothing known": ([], [], set(), {}, [BASE], []),
    "the same file": ([generation(9)], [], set(), {"t9": 9}, [], []),
    "the same file, and another that is newer": (
        [generation(9)], [entry("app.log.1", 1, 80)], set(), {"t9": 9}, [], [],
    ),
    "rotated once": (
        [generation(1, 10)], [entry("app.log.1", 1, 20)], set(), {"t1": 1}, [BASE], [],
    ),
    "rotated three times": (
        [generation(1, 10)],
        [entry("app.log.1", 3, 40), entry("app.log.2", 2, 30), entry("app.log.3", 1, 20),
         entry("app.log.4", 4, 5)],
        set(), {"t1": 1}, ["app.log.2", "app.log.1", BASE], [],
    ),
    "rotated at once, all in one tick": (
        [generation(1, 10)],
        [entry("app.log.1", 3, 10), entry("app.log.2", 2, 10), entry("app.log.3", 1, 10),
         entry("app.log.4", 4, 10)],
        set(), {"t1": 1}, ["app.log.2", "app.log.1", BASE], [],
    ),
    "dated names": (
        [generation(1, 10)],
        [entry("app.log-20260101", 1, 10), entry("app.log-20260103", 3, 20),
         entry("app.log-20260102", 2, 20)],
        set(), {"t1": 1}, ["app.log-20260102", "app.log-20260103", BASE], [],
    ),
    "a name of its own": (
        [generation(1, 10)], [entry("kept-by-hand", 1, 10)], set(), {"t1": 1}, [BASE], [],
    ),
    "copytruncate": (
        [generation(9, 10)], [entry("app.log.1", 1, 20)], {9}, {"t9": 1}, [BASE], [],
    ),
    "copytruncate twice": (
        [generation(9, 10)],
        [entry("app.log.1", 2, 30), entry("app.log.2", 1, 20)],
        {9, 2}, {"t9": 1}, ["app.log.1", BASE], [],
    ),
    "no copy from before it was written": (
        [generation(9, 30)], [entry("app.log.1", 1, 20)], {9}, {}, [BASE], ["t9"],
    ),
    "removed": ([generation(1, 10)], [], set(), {}, [BASE], ["t1"]),
    "removed after it was read out": (
        [generation(1, 10, read_out=True), generation(9, 20)], [], set(), {"t9": 9}, [], [],
    ),
    "compressed, and another after it": (
        [generation(1, 10)], [entry("app.log.1", 2, 20), entry("app.log.3", 3, 5)],
        {2, 3}, {}, ["app.log.1", BASE], ["t1"],
    ),
    "the inode is another file's by now": (
        [generation(1, 10), generation(9, 20)], [entry("app.log.1", 1, 30)], {1},
        {"t9": 9}, [], ["t1"],
    ),
    "rotated, and cut before the position": (
        [generation(1, 10)], [entry("app.log.1", 1, 10, size=5)], set(),
        {}, ["app.log.1", BASE], ["t1"],
    ),
    "done with, and written to later": (
        [generation(1, 10, done=True), generation(2, 20)],
        [entry("app.log.1", 2, 20), entry("app.log.2", 1, 30)], set(),
        {"t1": 1, "t2": 2}, [BASE], [],
    ),
    "an empty file that was done with, and its inode in use again": (
        [generation(1, 10, done=True, head_bytes=0, position=0), generation(2, 20)],
        [entry("app.log.1", 1, 30), entry("app.log.2", 2, 20)], set(),
        {"t2": 2}, ["app.log.1", BASE], [],
    ),
}  # fmt: skip


def uncopied(entry: Entry, current: Entry) -> bool:
    return False


@pytest.mark.parametrize("case", TABLE)
def test_which_files_are_read_after_a_rotation(case: str) -> None:
    known, entries, other, placed, unseen, lost = TABLE[case]
    found = look(known, entries, CURRENT, BASE, lambda _, one: one.inode not in other, uncopied)
    assert {token: one.inode for token, one in found.placed.items()} == placed
    assert [one.name for one in found.unseen] == unseen
    assert [one.token for one in found.lost] == lost


def test_without_a_file_at_the_path_what_was_rotated_is_read() -> None:
    entries = [entry("app.log.1", 2, 20), entry("app.log.2", 1, 10)]
    found = look([generation(1, 10)], entries, None, BASE, lambda known, one: True, uncopied)
    assert [one.name for one in found.unseen] == ["app.log.1"]


def test_order_of_rotated_files() -> None:
    names = [entry("app.log.1", 1, 5), entry("app.log.10", 2, 5), entry("app.log.2", 3, 4)]
    assert [one.name for one in oldest_first(names, BASE)] == [
        "app.log.2", "app.log.10", "app.log.1",
    ]  # fmt: skip


def reading(path: Path, made: Generation) -> Reading:
    return Reading(made, os.open(path, os.O_RDONLY), str(path))


def test_a_generation_is_known_again_by_all_that_was_offered(tmp_path: Path) -> None:
    path = tmp_path / BASE
    path.write_bytes(b"one\ntwo\nhal")
    made = Generation("t", path.stat().st_ino, str(tmp_path))
    read = reading(path, made)
    chunk = read.read()
    assert chunk is not None
    assert chunk.cut == ([b"one", b"two"], [0, 4])
    assert read.note_head()
    assert not read.note_head()
    assert (made.head_bytes, made.position) == (8, 0)
    made.position, made.tail = chunk.mark
    assert made.tail == digest(b"one\ntwo\n")
    read.close()
    found = Entry(str(path), BASE, made.inode, 11, 0)
    assert same(made, found)
    again = reading(path, made)
    path.write_bytes(b"one\ntwo\nhalf\n" + b"x" * 3000 + b"\n")
    chunk = again.read()
    assert chunk is not None
    assert chunk.cut == ([b"half", b"x" * 3000], [8, 13])
    assert again.note_head()
    assert made.head == digest(path.read_bytes()[:1024])
    made.position, made.tail = chunk.mark
    assert made.tail == digest(path.read_bytes()[-256:])
    again.close()
    for content in (b"one\ntwo\nhalf\n" + b"x" * 3000 + b"y", b"One" + path.read_bytes()[3:]):
        path.write_bytes(content)
        assert not same(made, found)


def test_a_file_that_is_written_again_is_seen_however_long_it_is(tmp_path: Path) -> None:
    path = tmp_path / BASE
    for content in (b"", b"One\n", b"two\n", b"other, and more\n"):
        path.write_bytes(b"one\n")
        read = reading(path, Generation("t", 1, str(tmp_path)))
        assert read.read() is not None
        assert read.read() is None
        assert read.drained
        path.write_bytes(content)
        with pytest.raises(Truncated):
            read.read()
        read.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.follower.close(clean=True)


def test_the_half_line_of_a_rotated_file_counts_once_its_writer_was_quiet(world: World) -> None:
    world.append(b"one\nhalf")
    assert world.lines() == [b"one"]
    world.path.rename(world.path.with_name("app.log.1"))
    world.append(b"two\n")
    assert world.lines() == [b"two"]
    world.now = LINGER_S - 1
    world.append(b" of it", "app.log.1")
    assert world.lines() == []
    world.now = 2 * LINGER_S - 2
    assert world.lines() == []
    world.now = 2 * LINGER_S
    assert world.lines() == [b"half of it"]
    assert world.lines() == []
    world.restart()
    assert world.lines() == []
    world.append(b"late\n", "app.log.1")
    world.restart()
    assert world.lines() == []
    assert world.told == []


def test_many_rotations_at_once_do_not_keep_as_many_files_open(world: World) -> None:
    world.append(b"begin\n")
    assert world.lines() == [b"begin"]
    for number in range(100):
        world.path.rename(world.path.with_name(f"app.log-{number:04}"))
        world.append(b"%d\n" % number)
    assert world.lines() == [b"%d" % number for number in range(100)]
    for _ in range(100):
        assert world.lines() == []
    mine = [os.readlink(f"/proc/self/fd/{fd}") for fd in open_descriptors()]
    assert sum(str(world.path) in one for one in mine) == READINGS_MAX
    world.restart()
    assert world.lines() == []


def open_descriptors() -> list[str]:
    return [fd for fd in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{fd}")]


@pytest.mark.parametrize("quiet", [False, True])
def test_a_file_that_comes_back_to_the_path_goes_on_where_it_was(quiet: bool, world: World) -> None:
    world.append(b"one\n")
    assert world.lines() == [b"one"]
    world.path.rename(world.path.with_name("app.log.1"))
    world.append(b"two\n")
    assert world.lines() == [b"two"]
    if quiet:
        world.now = LINGER_S
        assert world.lines() == []
    world.path.unlink()
    world.path.with_name("app.log.1").rename(world.path)
    assert world.lines() == []
    world.append(b"three\n")
    assert world.lines() == [b"three"]
    world.restart()
    world.append(b"four\n")
    assert world.lines() == [b"four"]


@pytest.mark.parametrize("left", [2500, 2499, 1024])
def test_a_file_whose_end_a_power_cut_took_is_gone_on_with(left: int, world: World) -> None:
    world.append(b"x" * 99 + b"\n" + b"y" * 2399 + b"\n" + b"lost\n" * 9)
    assert len(world.lines()) == 11
    before = json.loads(world.state.read_bytes())["generations"]
    os.truncate(world.path, left)
    world.restart_after_power_cut()
    assert world.lines() == []
    world.append(b"next\n")
    assert world.lines() == [b"next"]
    assert ["a power cut took its end" in one for one in world.told] == [True]
    after = json.loads(world.state.read_bytes())["generations"]
    assert [one["inode"] for one in after] == [one["inode"] for one in before]
    assert after[0]["token"] != before[0]["token"]
    world.restart()
    assert world.lines() == []


def test_a_file_that_another_boot_made_anew_is_read_from_its_beginning(world: World) -> None:
    world.append(b"x" * 1999 + b"\n")
    assert len(world.lines()) == 1
    os.truncate(world.path, 0)
    world.append(b"new\n")
    world.restart_after_power_cut()
    assert world.lines() == [b"new"]


def test_a_link_to_the_file_may_be_set_anew(world: World, tmp_path: Path) -> None:
    (tmp_path / "days").mkdir()
    days = [tmp_path / "days" / name for name in ("app.log.20260101", "app.log.20260102")]
    for day in days:
        day.write_bytes(day.name.encode() + b"\n")
        world.path.unlink(missing_ok=True)
        world.path.symlink_to(day)
        assert world.lines() == [day.name.encode()]
    world.restart()
    assert world.lines() == []
    assert world.told == []


def test_a_directory_is_listed_without_the_file_itself(tmp_path: Path) -> None:
    for name in (BASE, "app.log.1", "other"):
        (tmp_path / name).write_text(name)
    (tmp_path / "link").symlink_to(tmp_path / "other")
    found = scan(set(), str(tmp_path / BASE))
    assert found is not None
    entries, current = found
    assert [one.name for one in entries] == ["app.log.1", "other"]
    assert current is not None
    assert current.size == len(BASE)
    assert scan(set(), str(tmp_path / "none" / BASE)) == ([], None)


def test_an_empty_file_agrees_with_a_generation_of_which_nothing_was_read(tmp_path: Path) -> None:
    file = os.open(tmp_path / BASE, os.O_RDWR | os.O_CREAT)
    assert agrees(Generation("t", 1, "/"), file)
    assert not agrees(Generation("t", 1, "/", head_bytes=1, head=digest(b"x")), file)
    assert not agrees(Generation("t", 1, "/", position=1, tail=digest(b"x")), file)
    os.close(file)


def test_positions_come_back_as_they_were_kept_and_one_process_has_them(tmp_path: Path) -> None:
    file = PositionFile(tmp_path / "new" / "state")
    assert file.load() is None
    kept = Positions(1, "/p", Manner("t", "s", None, False), "boot", True, [generation(1)])
    file.save(kept)
    assert file.load() == kept
    with pytest.raises(ExitError, match=f"in use by pid {os.getpid()}") as refused:
        PositionFile(tmp_path / "new" / "state")
    assert refused.value.code == Exit.TRY_AGAIN
    file.close()
    again = PositionFile(tmp_path / "new" / "state")
    again.file.write_text('{"version": 1}')
    with pytest.raises(ExitError, match="it is no position file"):
        again.load()
    again.save(Positions(2, "/p", Manner("t", "s", None, False), "boot", True, []))
    with pytest.raises(ExitError, match="its version is 2"):
        again.load()
    again.close()


def test_where_positions_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    name = default_file("/var/log/app.log", {"STATE_DIRECTORY": "/var/lib/x:/var/lib/y"})
    assert str(name.parent) == "/var/lib/x"
    assert name.name.startswith("app.log-")
    home = default_file("/var/log/app.log", {"XDG_STATE_HOME": "/h"})
    assert home == Path("/h/certeus/pipe") / name.name
    assert default_file("/var/other/app.log", {"XDG_STATE_HOME": "/h"}) != home
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert default_file("/a", {}).parent == Path("/var/lib/certeus-pipe")
    monkeypatch.setattr("os.geteuid", lambda: 7)
    monkeypatch.setenv("HOME", "/home/u")
    assert default_file("/a", {}).parent == Path("/home/u/.local/state/certeus/pipe")
