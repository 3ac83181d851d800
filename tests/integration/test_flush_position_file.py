"""A disk that fails the flusher's position file: rows go on, and nothing is trimmed."""

import asyncio
import errno
import os
from pathlib import Path

import pytest

from certeusd.log.follower import read_position
from support.flushing import Rig, seqs, wait_until

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("of", ["postgres.tmp", "followers"])
def test_a_disk_that_fails_the_position_file_holds_trimming_until_it_is_well(
    rig: Rig, database: str, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    rig.begin()
    rig.append(5)
    fsync, refused = os.fsync, list[str]()

    def failing(descriptor: int) -> None:
        name = Path(os.readlink(f"/proc/self/fd/{descriptor}")).name
        if name == of:
            refused.append(name)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        fsync(descriptor)

    async def run() -> None:
        monkeypatch.setattr(os, "fsync", failing)
        async with rig.flusher(database):
            rig.durable()
            await rig.flushed()
            await wait_until(lambda: rig.is_active("position-file"), "it is told")
            rig.append(5)
            rig.durable()
            await rig.flushed()
            await wait_until(lambda: len(refused) > 1, "it is tried again")
            assert rig.board.get("follower", "trim_segment") == 0
            assert rig.is_active("position-file")
            monkeypatch.setattr(os, "fsync", fsync)
            await wait_until(lambda: rig.board.get("follower", "trim_segment") > 0, "leave to trim")
        assert not rig.is_active("position-file")
        assert read_position(rig.state_dir / "followers").seq == 10
        assert await seqs(database) == list(range(1, 11))

    asyncio.run(run())
