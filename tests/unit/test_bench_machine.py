"""What is told of the machine: from what the system says, and nothing where it says nothing."""

import subprocess
from pathlib import Path

import pytest

from certeus_bench import homes, machine

PG_TEST_FSYNC = """\
1 second per test
O_DIRECT supported on this platform for open_datasync and open_sync.

Compare file sync methods using one 8kB write:
(in wal_sync_method preference order, except fdatasync is Linux's default)
        open_datasync                      7019.592 ops/sec     142 usecs/op
        fdatasync                          7172.852 ops/sec     139 usecs/op
        fsync_writethrough                              n/a

Compare file sync methods using two 8kB writes:
        fdatasync                          6861.818 ops/sec     146 usecs/op
"""


def test_description_has_what_two_runs_must_share() -> None:
    told = machine.describe(Path("/"), full=False)
    assert set(machine.IDENTITY) <= set(told)
    assert all(told[name] for name in machine.IDENTITY)


def test_disk_is_that_of_the_directory(tmp_path: Path) -> None:
    assert machine.describe(Path("/dev/shm"), full=False)["file_system"] == "tmpfs"
    (tmp_path / "link").symlink_to("/dev/shm")
    assert machine.describe(tmp_path / "link", full=False)["file_system"] == "tmpfs"


@pytest.mark.parametrize(
    ("numbers", "told"),
    [([0], "0"), ([0, 1, 2], "0-2"), ([0, 2, 3, 7], "0,2-3,7"), ([], "")],
)
def test_cpus_are_told_as_ranges(numbers: list[int], told: str) -> None:
    assert machine.ranges(numbers) == told


def test_first_table_of_pg_test_fsync_is_read() -> None:
    told = machine.parse_pg_test_fsync(PG_TEST_FSYNC)
    assert told == {"pg_test_fsync_open_datasync_us": 142, "pg_test_fsync_fdatasync_us": 139}
    assert machine.parse_pg_test_fsync("") == {}


def test_commit_says_whether_files_were_changed(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True)

    git("init", "--quiet")
    (tmp_path / "file").write_text("one")
    git("add", "file")
    git("commit", "--quiet", "-m", "one")
    clean = machine.commit(tmp_path)
    assert len(clean) == 12
    git("tag", "some-tag")
    (tmp_path / "file").write_text("two")
    assert machine.commit(tmp_path) == f"{clean}-dirty"


def test_directory_without_a_checkout_has_no_commit(tmp_path: Path) -> None:
    assert machine.commit(tmp_path) == "unknown"


def test_home_is_empty_open_to_postgresql_and_gone_in_the_end(tmp_path: Path) -> None:
    with homes.fresh_home(tmp_path) as home:
        assert list(home.iterdir()) == []
        assert home.stat().st_mode & 0o777 == 0o755
        (home / "file").write_text("")
    assert list(tmp_path.iterdir()) == []


def test_place_that_is_too_long_for_a_socket_is_left_for_another(tmp_path: Path) -> None:
    place, why = homes.place_for_homes(tmp_path / ("x" * 80))
    assert place == homes.ELSEWHERE
    assert why is not None
    assert "path" in why or "cannot enter" in why


def test_place_that_postgresql_cannot_enter_is_left_for_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    (tmp_path / "closed").mkdir(mode=0o700)
    place, why = homes.place_for_homes(tmp_path / "closed")
    assert place == homes.ELSEWHERE
    assert why is not None
    assert "cannot enter" in why


def test_good_place_is_made_and_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with homes.fresh_home(Path("/var/tmp")) as parent:
        assert homes.place_for_homes(parent / "a" / "b") == (parent / "a" / "b", None)
        assert (parent / "a" / "b").is_dir()
