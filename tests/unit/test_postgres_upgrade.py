"""What an upgrade of the embedded cluster looks at before it touches anything."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

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
