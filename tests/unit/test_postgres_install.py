"""The embedded server's programs: which they are, whether all are there, and their copy."""

import importlib
import os
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from certeusd.exits import ExitError
from certeusd.supervisor import postgres_install, postgres_unpacking
from certeusd.supervisor.postgres_install import User, server_version, usable_install, wheel_install


def test_a_copy_has_its_name_only_when_its_bytes_are_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blocked(*_: object) -> Path:
        return tmp_path

    synced: list[list[str]] = []
    monkeypatch.setattr(postgres_install, "blocked_directory", blocked)
    monkeypatch.setattr(os, "sync", lambda: synced.append(os.listdir(tmp_path)))
    install, copied = usable_install(wheel_install(), User("nobody", 1, 1, (1,)), tmp_path)
    assert copied
    assert synced == [["binaries.new"]], "synced once, before it had its name"
    assert server_version(install) == server_version(wheel_install())
    assert usable_install(wheel_install(), User("nobody", 1, 1, (1,)), tmp_path) == (install, False)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel of another name in the path, with nothing in it yet."""
    made = tmp_path / "some_pgserver"
    made.mkdir()
    (made / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    importlib.invalidate_caches()
    monkeypatch.setattr(postgres_install, "WHEEL", made.name)
    return made


def unpacked(package: Path, install: str) -> Path:
    (package / install / "bin").mkdir(parents=True)
    (package / install / "bin" / "postgres").touch()
    return package / install


def test_the_older_version_in_the_wheel_is_never_taken_for_ours(package: Path) -> None:
    unpacked(package, "pginstall")
    with pytest.raises(postgres_install.NotInstalledError):
        wheel_install()
    ours = unpacked(package, "pginstall18")
    assert wheel_install() == ours


def test_an_installation_is_whole_when_nobody_writes_to_it_any_more(package: Path) -> None:
    install = unpacked(package, "pginstall18")
    libraries = package.parent / f"{package.name}.libs"
    libraries.mkdir()
    changed = libraries.stat().st_ctime
    later = changed + postgres_unpacking.QUIET_S + 1

    def unpacking(now: float = later) -> bool:
        return postgres_unpacking.is_unpacking(install, package.name, now)

    assert unpacking(changed), "its libraries came just now"
    assert not unpacking()
    assert not unpacking(changed - 3600), "the clock was put back"
    half = install / "bin" / "psql.dpkg-new"
    half.touch()
    assert unpacking(half.stat().st_ctime + 3600), "dpkg has not given all names yet"
    half.unlink()
    info = package.parent / f"{package.name}-1.dist-info"
    info.mkdir()
    assert unpacking(time.time() + 3600), "pip is not done"
    (info / "RECORD").touch()
    assert not unpacking(time.time() + 3600)


def test_a_cluster_of_an_owner_without_a_name_says_whose_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(postgres_install, "USERS", ("nobody",))

    def stat(_: Path) -> SimpleNamespace:
        return SimpleNamespace(st_uid=4_000_000)

    monkeypatch.setattr(Path, "stat", stat)
    with pytest.raises(ExitError, match="uid 4000000, which has no name; chown"):
        postgres_install.server_user("", tmp_path)
