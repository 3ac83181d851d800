"""Root among the files of an unprivileged user: it follows no link of that user's."""

import os
import pwd
from collections.abc import Iterator
from pathlib import Path

import pytest

from certeusd.supervisor.postgres_cluster import write_access_files
from certeusd.supervisor.postgres_files import acting_as, append_synced, hand_over
from certeusd.supervisor.postgres_install import User
from support.daemon import scratch_dir

NOBODY = pwd.getpwnam("nobody")
OTHER = User("nobody", NOBODY.pw_uid, NOBODY.pw_gid, (NOBODY.pw_gid,))
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="changes users")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Somewhere that every user can enter."""
    with scratch_dir() as made:
        yield made


def test_access_files_replace_a_link_and_leave_its_target_alone(folder: Path) -> None:
    victim = folder / "victim"
    victim.write_text("mine")
    victim.chmod(0o600)
    for name in ("pg_hba.conf", "pg_hba.conf.new", "pg_ident.conf.new"):
        (folder / name).symlink_to(victim)
    write_access_files(folder, OTHER)
    assert (victim.read_text(), victim.stat().st_mode & 0o777) == ("mine", 0o600)
    for name in ("pg_hba.conf", "pg_ident.conf"):
        assert not (folder / name).is_symlink()
        assert (folder / name).stat().st_mode & 0o777 == 0o644
        assert "map=certeus" in (folder / name).read_text() or "ident" in name


def test_a_link_is_neither_opened_nor_given_away(folder: Path) -> None:
    victim, link = folder / "victim", folder / "link"
    victim.mkdir(mode=0o700)
    link.symlink_to(victim)
    with pytest.raises(OSError, match="link"):
        hand_over(link, OTHER)
    assert victim.stat().st_mode & 0o777 == 0o700
    assert victim.stat().st_uid == os.geteuid()
    (victim / "file").write_text("mine")
    (folder / "name").symlink_to(victim / "file")
    with pytest.raises(OSError, match="links"):
        append_synced(folder / "name", "yours")
    append_synced(victim / "file", ", too")
    assert (victim / "file").read_text() == "mine, too"


@needs_root
def test_root_acts_as_the_user_and_is_root_again(folder: Path) -> None:
    secret = folder / "secret"
    secret.write_text("root's")
    secret.chmod(0o600)
    hand_over(folder, OTHER)
    before = os.geteuid(), os.getegid(), os.getgroups()
    with acting_as(OTHER):
        (folder / "postgresql.conf").symlink_to(secret)
        with pytest.raises(PermissionError):
            (folder / "postgresql.conf").read_text()
        with pytest.raises(PermissionError):
            (folder / "postgresql.conf").write_text("x")
        assert (os.getegid(), os.getgroups()) == (OTHER.gid, list(OTHER.groups))
    assert (os.geteuid(), os.getegid(), os.getgroups()) == before
    assert secret.read_text() == "root's"
