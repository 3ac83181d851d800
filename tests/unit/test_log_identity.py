"""The name that a fork gives a log: whole, durable, believed only beside its own segments."""

import asyncio
import json
import os
import uuid
from pathlib import Path

import pytest

from certeusd.log import identity
from certeusd.log.identity import FILE, Identity
from support.flushing import Rig, wait_until

OURS = uuid.UUID(int=1)


def test_a_log_without_a_fork_has_the_name_of_its_segments(tmp_path: Path) -> None:
    assert identity.read(tmp_path) is None
    assert identity.of_log(tmp_path, OURS) == Identity(OURS)


def test_a_fork_gives_a_new_name_and_keeps_the_old_ones(tmp_path: Path) -> None:
    once = identity.fork(tmp_path, Identity(OURS))
    assert identity.of_log(tmp_path, OURS) == once
    twice = identity.fork(tmp_path, once)
    assert identity.of_log(tmp_path, OURS) == twice
    assert twice.before == (OURS, once.log_uuid)
    assert len({OURS, once.log_uuid, twice.log_uuid}) == 3
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_forks_is_the_daemons(tmp_path: Path) -> None:
    os.chown(tmp_path, 65533, 65532)
    identity.fork(tmp_path, Identity(OURS))
    made = (tmp_path / FILE).stat()
    assert (made.st_uid, made.st_gid) == (65533, 65532)


def test_the_bytes_then_the_name_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def noted_fsync(descriptor: int) -> None:
        steps.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    def noted_rename(path: Path, target: Path) -> Path:
        steps.append(f"rename {target.name}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "rename", noted_rename)
    identity.fork(tmp_path, Identity(OURS))
    assert steps == ["identity.new", f"rename {FILE}", tmp_path.name]


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"version": 2, "log_id": ""}', "{"])
def test_a_name_that_cannot_be_read_is_an_error_and_never_the_old_name(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ValueError, match="put it back from a copy"):
        identity.of_log(tmp_path, OURS)


def test_the_name_of_another_log_is_not_believed(tmp_path: Path) -> None:
    identity.fork(tmp_path, Identity(uuid.UUID(int=2)))
    with pytest.raises(ValueError, match="of another log"):
        identity.of_log(tmp_path, OURS)
    told = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps({**told, "before": []}))
    with pytest.raises(ValueError, match="of another log"):
        identity.of_log(tmp_path, OURS)


def test_a_forked_log_has_no_name_for_the_flusher_before_it_is_recovered(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "state")
    rig.begin()
    rig.append(3)
    identity.fork(rig.log_dir, Identity(rig.uuid))

    async def run() -> None:
        async with rig.flusher("postgresql://nobody@/none?host=/nonexistent"):
            await rig.housekept()
            assert not rig.states("postgres-away"), "there is nothing to ask a server yet"
            rig.durable()
            await wait_until(lambda: rig.is_active("postgres-away"), "it tries to connect")

    try:
        asyncio.run(run())
    finally:
        rig.close()
