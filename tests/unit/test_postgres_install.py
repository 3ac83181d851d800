"""The copy of the embedded server's programs, for a user who cannot reach them."""

import os
from pathlib import Path

import pytest

from certeusd.supervisor import postgres_install
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
