"""Backups and restores beside each other, beside a daemon, and on what somebody else has laid out.

The steps of two of them are taken in the order of the mishap, in one process.
"""

import fcntl
import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from certeusd import config_sources, logs, probe
from certeusd.backup import log_source, postgres_source, target, verify
from certeusd.backup import restore as restoring
from certeusd.backup.create import create
from certeusd.backup.log_source import End, HeldSegments
from certeusd.backup.manifest import Manifest, Position, PostgresPart
from certeusd.backup.reading import Fault
from certeusd.backup.verify import Verified
from certeusd.exits import Exit, ExitError
from certeusd.paths import Paths
from certeusd.supervisor import directories, locks
from certeusd.supervisor.supervisor import Settings, Supervisor

FORMS = ("b", "b.tar")
FOREIGN_UID = 65534


def paths_in(folder: Path) -> Paths:
    return Paths(folder / "state", folder / "run")


@pytest.fixture
def backed_up(tmp_path: Path) -> Path:
    """A backup, with its key, of a ledger in which nothing happened yet."""
    paths = paths_in(tmp_path / "old")
    directories.make(paths)
    directories.make_log_key(paths)
    create(paths, tmp_path / "whole", with_key=True)
    return tmp_path / "whole"


# --- a restore that is run again ---------------------------------------------------------------


def ledger_in(state: Path) -> Callable[[], bool]:
    """Put acknowledged events there; whether they still are."""
    (state / "log").mkdir(parents=True, exist_ok=True)
    event = state / "log" / "event"
    event.write_text("acknowledged")
    return event.exists


def test_a_restore_that_is_refused_leaves_the_state_directory_as_it_was(
    backed_up: Path, tmp_path: Path
) -> None:
    paths = paths_in(tmp_path / "new")
    (backed_up / "keys" / "log.key").unlink()
    with pytest.raises(restoring.DamagedError):
        restoring.restore(backed_up, paths, restoring.Options())
    assert [one.name for one in paths.state_dir.iterdir()] == ["lock"]
    directories.make(paths)


def test_a_restore_that_is_run_again_deletes_no_ledger_that_came_there_since(
    backed_up: Path, tmp_path: Path
) -> None:
    paths = paths_in(tmp_path / "new")
    (paths.state_dir / "restoring" / "log").mkdir(parents=True)
    is_there = ledger_in(paths.state_dir)
    with pytest.raises(ExitError, match=r"not empty \(log\).*or remove .*/restoring"):
        restoring.restore(backed_up, paths, restoring.Options())
    assert is_there()
    (paths.state_dir / "restoring").rename(paths.state_dir / "restoring.whole")
    with pytest.raises(ExitError, match=r"not empty \(log\)"):
        restoring.restore(backed_up, paths, restoring.Options())
    assert is_there(), "what is still to be moved was not moved there by us"


def test_a_daemon_that_gets_the_lock_after_a_restore_was_killed_does_not_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = paths_in(tmp_path)
    hold = locks.hold

    def killed_before(path: Path) -> int:
        (paths.state_dir / "restoring").mkdir(exist_ok=True)
        return hold(path)

    monkeypatch.setattr(locks, "hold", killed_before)
    loaded = config_sources.load(None, {})
    daemon = Supervisor(Settings(loaded, paths), logs.get_logger())
    try:
        with pytest.raises(ExitError, match="was not finished"):
            daemon.start()
    finally:
        daemon.close()
    assert not paths.log_key.exists(), "nothing of a ledger was begun"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files away")
@pytest.mark.parametrize("killed_at", ["first rename", "last rmdir"])
def test_a_root_restore_that_is_killed_at_its_end_is_told_or_can_be_started(
    backed_up: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    paths = paths_in(tmp_path / "new")
    finish = restoring.__dict__["_finish"]

    def killed(state: Path, staging: Path) -> None:
        if killed_at == "last rmdir":
            finish(state, staging)
        raise KeyboardInterrupt

    monkeypatch.setattr(restoring, "_finish", killed)
    with pytest.raises(KeyboardInterrupt):
        restoring.restore(backed_up, paths, restoring.Options(owner="nobody"))
    if killed_at == "first rename":
        assert directories.is_half_restored(paths)
        monkeypatch.undo()
        restoring.restore(backed_up, paths, restoring.Options(owner="nobody"))
    assert not directories.is_half_restored(paths)
    every = [paths.state_dir, *paths.state_dir.rglob("*")]
    assert {one.stat().st_uid for one in every} == {FOREIGN_UID}


# --- two backups of one name -------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_backup_that_was_waiting_for_the_name_leaves_the_finished_one_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    place = tmp_path / form
    first = target.at(place)
    first.add_bytes("config/certeus.toml", b"# finished")
    flock = fcntl.flock

    def ends_meanwhile(descriptor: int, operation: int) -> None:
        """The other one opened our partial; before it has the lock, we are done."""
        monkeypatch.undo()
        finished(first)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", ends_meanwhile)
    with pytest.raises(ExitError) as refused:
        target.at(place)
    assert refused.value.code == Exit.TRY_AGAIN
    assert b"# finished" in content(place)


@pytest.mark.parametrize("form", FORMS)
def test_a_backup_that_got_its_name_removes_nothing_of_the_next_one(
    tmp_path: Path, form: str
) -> None:
    place = tmp_path / form
    first = target.at(place)
    first.add_bytes("config/certeus.toml", b"# first")
    named(first)
    place.rename(tmp_path / "elsewhere.tar")
    second = target.at(place)
    first.discard()
    second.add_bytes("config/certeus.toml", b"# second")
    finished(second)
    assert b"# second" in content(place)


@pytest.mark.parametrize("form", FORMS)
def test_a_name_that_is_given_between_look_and_lock_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    place = tmp_path / form
    flock = fcntl.flock

    def given_meanwhile(descriptor: int, operation: int) -> None:
        place.write_text("finished")
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", given_meanwhile)
    with pytest.raises(ExitError, match="exists already"):
        target.at(place)
    assert [one.name for one in tmp_path.iterdir()] == [form], "nothing of ours is left"


def named(one: target.Target) -> None:
    manifest = Manifest(
        certeus_version="1", host="h", created_at="now", log_id=None, owner="root", log=None,
        postgres=PostgresPart("none", "none", "", ""),
        flush_position=Position(0, 0, ""), key_included=False, key_sha256=None, files=one.entries,
    )  # fmt: skip
    one.finish(manifest)


def finished(one: target.Target) -> None:
    named(one)
    one.discard()


def content(place: Path) -> bytes:
    if place.is_dir():
        return (place / "config" / "certeus.toml").read_bytes()
    return place.read_bytes()


# --- what others have laid out -----------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_partial_that_is_a_link_is_not_followed(tmp_path: Path, form: str) -> None:
    victim = tmp_path / "victim"
    if form == "b":
        (victim / "log").mkdir(parents=True)
    else:
        victim.write_text("precious")
    (tmp_path / f"{form}.partial").symlink_to(victim)
    with pytest.raises(ExitError, match="choose another place"):
        target.at(tmp_path / form)
    assert (victim / "log").exists() if form == "b" else victim.read_text() == "precious"


def test_a_partial_that_is_another_name_of_a_file_is_not_emptied(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "b.tar.partial").hardlink_to(victim)
    with pytest.raises(ExitError, match="move it away"):
        target.at(tmp_path / "b.tar")
    assert victim.read_text() == "precious"


def test_a_directory_that_only_happens_to_be_called_partial_is_not_emptied(tmp_path: Path) -> None:
    inner = tmp_path / "b.partial" / "log"
    inner.mkdir(parents=True)
    (inner / "thesis.tex").write_text("precious")
    (tmp_path / "b.partial" / "manifest.json").write_text("{}")
    with pytest.raises(ExitError, match=r"log/thesis\.tex is not of a backup"):
        target.at(tmp_path / "b")
    assert len(list(inner.parent.iterdir())) == 2, "nothing of it went"


@pytest.mark.parametrize("form", FORMS)
def test_a_partial_that_others_could_read_is_ours_alone_from_then_on(
    tmp_path: Path, form: str
) -> None:
    partial = tmp_path / f"{form}.partial"
    (partial.mkdir if form == "b" else partial.touch)()
    partial.chmod(0o777)
    taken = target.at(tmp_path / form)
    try:
        assert partial.stat().st_mode & 0o077 == 0
    finally:
        taken.discard()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make another user's file")
@pytest.mark.parametrize("form", FORMS)
def test_a_partial_of_another_user_is_refused(tmp_path: Path, form: str) -> None:
    partial = tmp_path / f"{form}.partial"
    (partial.mkdir if form == "b" else partial.touch)()
    os.chown(partial, FOREIGN_UID, FOREIGN_UID)
    with pytest.raises(ExitError, match="another user's"):
        target.at(tmp_path / form)
    assert partial.exists()


@pytest.mark.parametrize("link", ["pg_wal", "pg_tblspc/16384"])
def test_a_stopped_server_with_files_elsewhere_is_not_backed_up(tmp_path: Path, link: str) -> None:
    paths = paths_in(tmp_path)
    data = paths.postgres / "data"
    (data / link).parent.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (data / link).symlink_to(tmp_path / "elsewhere")
    taken = target.at(tmp_path / "b")
    try:
        with pytest.raises(ExitError, match=f"{link} is a link"):
            postgres_source.copy_stopped(paths, taken)
    finally:
        taken.discard()


def test_the_key_of_a_tar_file_is_verified_with_and_never_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = paths_in(tmp_path)
    directories.make(paths)
    directories.make_log_key(paths)
    create(paths, tmp_path / "b.tar", with_key=True)
    seen = list[tuple[set[str], bytes | None]]()
    check = verify.log_checked

    def checked(manifest: Manifest, faults: list[Fault], root: Path, key: bytes | None) -> Verified:
        seen.append(({one.name for one in root.rglob("*")}, key))
        return check(manifest, faults, root, key)

    monkeypatch.setattr(verify, "log_checked", checked)
    assert verify.verify(tmp_path / "b.tar").faults == []
    assert seen == [({"log"}, paths.log_key.read_bytes())]


# --- a log that goes on ------------------------------------------------------------------------


def log_of(folder: Path, *numbers: int) -> None:
    """Segments as far as their headers say what was before them; a sidecar to each."""
    for number in numbers:
        header = bytearray(log_source.SEGMENT_HEADER_BYTES)
        struct.pack_into("<QQ", header, 80, 10 * number, 100 * number)
        (folder / f"{number:020}.log").write_bytes(header)
        (folder / f"{number:020}.keys").write_text(f"keys of {number}")


def test_what_is_trimmed_while_the_database_is_copied_is_in_the_backup_all_the_same(
    tmp_path: Path,
) -> None:
    log_dir = tmp_path / "log"
    log_dir.mkdir()
    log_of(log_dir, 2, 3, 4)
    (log_dir / f"{2:020}.log").unlink()
    held = HeldSegments(log_dir)
    taken = target.at(tmp_path / "b")
    try:
        for number in (2, 3):
            (log_dir / f"{number:020}.keys").unlink()
        (log_dir / f"{3:020}.log").unlink()
        end = End(4, log_source.SEGMENT_HEADER_BYTES, 450, 45, "", "")
        part = log_source.copy(held, end, taken)
        assert (part.first_group, part.first_seq) == (31, 300), "as the trimmed one says"
        assert [one.path for one in taken.entries] == [
            f"log/{3:020}.log", f"log/{4:020}.log", f"log/{2:020}.keys", f"log/{3:020}.keys",
        ]  # fmt: skip
        assert (taken.partial / f"log/{2:020}.keys").read_text() == "keys of 2"
    finally:
        held.close()
        taken.discard()


def test_who_has_the_state_directory_is_told_without_taking_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder: Callable[[Path], int | None] = probe.__dict__["_holder"]
    lock = tmp_path / "lock"
    assert holder(lock) is None
    held = locks.hold(lock)

    def never(_: int, __: int) -> None:
        raise AssertionError("who starts at this moment would be refused")

    monkeypatch.setattr(fcntl, "flock", never)
    assert holder(lock) == os.getpid()
    os.close(held)
    assert holder(lock) is None
