"""What an upgrade of the embedded cluster looks at before it touches anything."""

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from certeusd.exits import Exit, ExitError
from certeusd.paths import Paths
from certeusd.supervisor import postgres_upgrade
from certeusd.supervisor.postgres_install import wheel_install
from certeusd.supervisor.postgres_upgrade import (
    Upgrade,
    exchange,
    find_binaries,
    name_of,
    settings_of,
    try_exchange,
)
from support.old_postgres import installations


@pytest.fixture
def state_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="certeus-", dir="/tmp") as folder:
        yield Path(folder)


def test_two_names_are_exchanged_with_all_that_is_in_them(state_dir: Path) -> None:
    one, other = state_dir / "one", state_dir / "other"
    for folder in (one, other):
        folder.mkdir()
        (folder / folder.name).touch()
    exchange(one, other)
    assert os.listdir(one) == ["other"]
    assert os.listdir(other) == ["one"]
    with pytest.raises(FileNotFoundError):
        exchange(one, state_dir / "nowhere")


def test_settings_are_those_of_both_files_without_comments(state_dir: Path) -> None:
    (state_dir / "postgresql.conf").write_text("# no\n\nwork_mem = 4MB # yes\n  port=5433\n")
    (state_dir / "postgresql.auto.conf").write_text("# ALTER SYSTEM\nwork_mem = '9MB'\n")
    lines = settings_of(state_dir)
    assert lines == ["work_mem = 4MB # yes", "port=5433", "work_mem = '9MB'"]
    assert [name_of(line) for line in lines] == ["work_mem", "port", "work_mem"]
    assert settings_of(state_dir / "nowhere") == []


def test_programs_are_those_of_the_wanted_version_or_the_error_says_where_was_looked(
    state_dir: Path,
) -> None:
    wheel = wheel_install()
    for version, install in installations().items():
        assert find_binaries(version, None, wheel) == install / "bin"
        assert find_binaries(version, str(install / "bin"), wheel) == install / "bin"
        with pytest.raises(ExitError, match=f"looked in {install}"):
            find_binaries("11", str(install / "bin"), wheel)
    with pytest.raises(ExitError, match="apt install postgresql-11") as error:
        find_binaries("11", None, wheel)
    assert error.value.code is Exit.CONFIGURATION
    assert "/usr/lib/postgresql/11/bin" in str(error.value)


@pytest.mark.skipif(not installations(), reason="there is no older PostgreSQL here")
def test_without_room_for_the_copy_nothing_is_made(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = state_dir / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text(f"{min(installations())}\n")
    monkeypatch.setattr(postgres_upgrade, "ROOM_BYTES", 1 << 60)
    lines = list[str]()
    if os.geteuid() == 0:
        os.chown(data, 65534, 65534)
    one = Upgrade(Paths(state_dir, state_dir), False, lines.append)
    with pytest.raises(ExitError, match="MiB are needed"):
        one.run(None)
    assert [line[:3] for line in lines] == ["1/6"]
    assert os.listdir(state_dir) == ["postgres"]
    assert [path.name for path in data.iterdir()] == ["PG_VERSION"]


@pytest.mark.skipif(not installations(), reason="there is no older PostgreSQL here")
@pytest.mark.parametrize("failing", ["_pg_upgrade", "carry_settings", "exchange"])
def test_an_upgrade_by_links_that_fails_leaves_an_old_cluster_that_starts(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """Steps that need a cluster do nothing here; pg_upgrade puts the control file aside."""
    folder = state_dir / "postgres" / "data" / "global"
    folder.mkdir(parents=True)
    (folder.parent / "PG_VERSION").write_text(f"{min(installations())}\n")
    (folder / "pg_control").write_text("whole")
    state_dir.chmod(0o755)
    if os.geteuid() == 0:
        for place in (folder.parent, folder):
            os.chown(place, 65534, 65534)

    def put_aside(_one: Upgrade, _old: Path, _new: Path, mode: str) -> None:
        if mode == "--link":
            (folder / "pg_control").rename(folder / "pg_control.old")

        if mode == "--link" and failing == "_pg_upgrade":
            fail()

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    def nothing(*_: object) -> None: ...

    for step in ("_settle_old", "_make_new"):
        monkeypatch.setattr(Upgrade, step, nothing)
    monkeypatch.setattr(Upgrade, "_pg_upgrade", put_aside)
    settings = fail if failing == "carry_settings" else nothing
    monkeypatch.setattr(Upgrade, "carry_settings", settings)
    monkeypatch.setattr(postgres_upgrade, "try_exchange", nothing)
    monkeypatch.setattr(postgres_upgrade, "exchange", fail)
    one = Upgrade(Paths(state_dir, state_dir), True, nothing)
    with pytest.raises(OSError, match="no room"):
        one.run(None)
    assert os.listdir(folder) == ["pg_control"]


def test_a_file_system_mounted_on_the_cluster_is_told_before_anything_is_made(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = state_dir / "postgres"
    home.mkdir()
    try_exchange(state_dir, home)
    mounted = SimpleNamespace(mountpoint=str(home.resolve()))

    def partitions(**_: object) -> list[SimpleNamespace]:
        return [mounted]

    monkeypatch.setattr(psutil, "disk_partitions", partitions)
    with pytest.raises(ExitError, match="a file system is mounted there"):
        try_exchange(state_dir, home)
    assert os.listdir(state_dir) == ["postgres"]


@pytest.mark.skipif(not installations(), reason="there is no older PostgreSQL here")
def test_a_cluster_whose_files_belong_to_a_newer_one_is_not_upgraded_again(
    state_dir: Path,
) -> None:
    folder = state_dir / "postgres" / "data" / "global"
    folder.mkdir(parents=True)
    (folder.parent / "PG_VERSION").write_text(f"{min(installations())}\n")
    (folder / "pg_control.old").touch()
    state_dir.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(folder.parent, 65534, 65534)
    one = Upgrade(Paths(state_dir, state_dir), True, lambda _: None)
    for _ in range(2):
        with pytest.raises(ExitError, match="rename data/global/pg_control"):
            one.run(None)
    assert os.listdir(folder) == ["pg_control.old"]


@pytest.mark.skipif(os.geteuid() != 0, reason="changes users")
@pytest.mark.parametrize("linked", ["postgres", "postgres.upgrade"])
def test_settings_are_carried_with_the_rights_of_the_user_whose_clusters_they_are(
    state_dir: Path, linked: str
) -> None:
    state_dir.chmod(0o711)
    secret = state_dir / "secret"
    secret.write_text("root's\n")
    secret.chmod(0o600)
    for name in ("postgres", "postgres.upgrade"):
        data = state_dir / name / "data"
        data.mkdir(parents=True)
        os.chown(data, 65534, 65534)
        if name == linked:
            (data / "postgresql.conf").symlink_to(secret)
    one = Upgrade(Paths(state_dir, state_dir), False, lambda _: None)
    with pytest.raises(PermissionError):
        one.carry_settings(wheel_install())
    assert secret.read_text() == "root's\n"
