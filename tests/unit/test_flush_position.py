"""The position file: durable, and only then in its place, and that durable too."""

import json
import os
import uuid
from pathlib import Path

import pytest

from certeusd.flush.position import Position, write_file
from certeusd.log.follower import FollowerPosition, read_position

POSITION = Position(7, 42, bytes(range(32)), 3)


def test_the_bytes_then_the_name_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "followers"
    steps: list[tuple[str, str]] = []
    fsync, rename = os.fsync, Path.rename

    def noted_fsync(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        held = "" if path.is_dir() else json.loads(path.read_text())["seq"]
        steps.append(("sync", f"{path.name} {held}".strip()))
        fsync(descriptor)

    def noted_rename(path: Path, target: Path) -> Path:
        steps.append(("rename", target.name))
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "rename", noted_rename)
    write_file(folder / "postgres", uuid.UUID(int=1), POSITION)
    assert steps == [("sync", "postgres.tmp 42"), ("rename", "postgres"), ("sync", "followers")]


def test_what_was_written_is_the_floor_of_the_next_start(tmp_path: Path) -> None:
    for seq in (42, 43):
        write_file(tmp_path / "postgres", uuid.UUID(int=1), POSITION._replace(seq=seq))
        assert read_position(tmp_path) == FollowerPosition(7, seq, POSITION.root)
    assert [path.name for path in tmp_path.iterdir()] == ["postgres"]
