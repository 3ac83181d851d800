"""Who follows the log and how far behind, and letting go of one, with and without a daemon."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from certeusd._native import LogReader, SegmentBuilder
from certeusd.control import followers as shown
from certeusd.exits import Exit
from certeusd.log import followers
from certeusd.supervisor import locks
from support.log_machine import LOG_KEY

PROGRAM = [sys.executable, "-P", "-m", "certeusd.cli.main"]
AT_NS = 1_700_000_000_000_000_000
CONFIRMED_AT = 1_700_000_000


def certeus(state_dir: Path, *verb: str) -> tuple[int, str, str]:
    places = ["--state-dir", str(state_dir), "--runtime-dir", str(state_dir / "run")]
    done = subprocess.run(
        [*PROGRAM, *places, "followers", *verb], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def confirm(state_dir: Path, name: str, group: int, seq: int) -> None:
    path = state_dir / "followers" / name
    path.write_text(json.dumps({"group": group, "seq": seq, "root": "00" * 32}))
    os.utime(path, (CONFIRMED_AT, CONFIRMED_AT))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Three segments: 1..3, 4..6 and 7..9, a group an event."""
    (tmp_path / "log").mkdir()
    (tmp_path / "followers").mkdir()
    builder = SegmentBuilder(tmp_path / "log", bytes(16), LOG_KEY)
    for first in (1, 4, 7):
        builder.segment()
        builder.producer(1, "default", "made", uid=7)
        for ticket in range(first, first + 3):
            builder.record(1, ticket, "line", b'{"n": %d}' % ticket)
            builder.commit(AT_NS + ticket)
    return tmp_path


def bytes_of(state: Path, count: int) -> int:
    """Bytes of the complete segments, the newest `count` of the two."""
    complete = sorted((state / "log").glob("*.log"))[:-1]
    return sum(path.stat().st_size for path in complete[len(complete) - count :])


@pytest.mark.parametrize(
    ("seq", "complete"), [(0, 2), (2, 2), (3, 1), (5, 1), (6, 0), (8, 0), (9, 0)]
)
def test_a_follower_lacks_the_segments_with_events_above_its_position(
    state: Path, seq: int, complete: int
) -> None:
    confirm(state, "postgres", max(seq, 1), seq)
    (row,) = shown.seen(state / "log", state / "followers", None).followers
    assert (row.seq, row.lag_events) == (seq, 9 - seq)
    assert row.lag_bytes == bytes_of(state, complete)
    assert row.holds_back == (complete > 0)


def test_only_a_required_follower_holds_the_log(state: Path) -> None:
    confirm(state, "relay", 1, 1)
    confirm(state, "postgres", 9, 9)
    rows = shown.seen(state / "log", state / "followers", None).followers
    assert [(row.name, row.required, row.holds_back) for row in rows] == [
        ("postgres", True, False), ("relay", False, False),
    ]  # fmt: skip
    assert rows[1].lag_bytes == bytes_of(state, 2)


def test_the_list_is_the_same_text_and_document_every_time(state: Path) -> None:
    confirm(state, "relay", 5, 5)
    (state / "followers" / "postgres.tmp").write_text("half")
    (state / "followers" / "old").write_text("{")
    os.utime(state / "followers" / "old", (CONFIRMED_AT, CONFIRMED_AT))
    held = bytes_of(state, 2)
    code, out, _ = certeus(state, "--json")
    assert code == 0
    at = "2023-11-14T22:13:20.000Z"
    nothing = {"seq": 0, "group": 0, "lag_events": 9, "lag_bytes": held}
    assert json.loads(out) == {
        "schema_version": 1,
        "durable_seq": 9,
        "followers": [
            {"name": "old", "required": False, "state": "damaged", **nothing,
             "confirmed_at": at, "holds_back": False},
            {"name": "postgres", "required": True, "state": "none", **nothing,
             "confirmed_at": None, "holds_back": True},
            {"name": "relay", "required": False, "state": "confirmed", "seq": 5, "group": 5,
             "lag_events": 4, "lag_bytes": bytes_of(state, 1), "confirmed_at": at,
             "holds_back": False},
        ],
    }  # fmt: skip
    code, out, _ = certeus(state)
    assert code == 0
    assert [" ".join(line.split()) for line in out.splitlines()] == [
        "follower required state seq group lag events lag bytes holds log confirmed",
        f"old no damaged 0 0 9 {held / 1024:.1f} KiB no {at}",
        f"postgres yes none 0 0 9 {held / 1024:.1f} KiB yes never",
        f"relay no confirmed 5 5 4 {bytes_of(state, 1) / 1024:.1f} KiB no {at}",
    ]


def test_a_log_that_is_not_there_is_an_error_with_the_next_step(tmp_path: Path) -> None:
    code, _, err = certeus(tmp_path)
    assert (code, "give --state-dir" in err) == (Exit.FAILED, True)


def test_forgetting_removes_the_name_and_syncs_that(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    confirm(state, "relay", 5, 5)
    synced: list[tuple[str, bool]] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        synced.append((path.name, (path / "relay").exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    followers.forget(state / "followers", "relay")
    assert synced == [("followers", False)]


def test_forget_alone_says_what_it_did_and_what_not(state: Path) -> None:
    confirm(state, "relay", 5, 5)
    confirm(state, "postgres", 5, 5)
    assert certeus(state, "forget", "relay") == (0, "follower relay forgotten\n", "")
    code, out, err = certeus(state, "forget", "relay", "--json")
    assert (code, out) == (Exit.FAILED, "")
    assert "there is no such follower; `certeus followers` lists them" in err
    code, _, err = certeus(state, "forget", "postgres")
    assert code == Exit.FAILED
    assert "cannot forget postgres: what it has not confirmed is nowhere but in the log" in err
    assert "certeus gap accept" in err
    assert [path.name for path in (state / "followers").iterdir()] == ["postgres"]


@pytest.mark.parametrize("name", ["../log/LOCK", "postgres.tmp", "", "folder"])
def test_what_is_no_follower_is_not_removed(state: Path, name: str) -> None:
    (state / "followers" / "postgres.tmp").write_text("half")
    (state / "followers" / "folder").mkdir()
    (state / "log" / "LOCK").write_text("")
    before = sorted(state.rglob("*"))
    with pytest.raises(shown.RefusedError, match="no such follower"):
        shown.forget(state / "followers", name)
    assert sorted(state.rglob("*")) == before


@pytest.fixture
def locked(state: Path) -> Iterator[Path]:
    descriptor = locks.hold(state / "lock")
    yield state
    os.close(descriptor)


def test_forget_alone_waits_for_no_daemon_and_names_it(locked: Path) -> None:
    confirm(locked, "relay", 5, 5)
    code, _, err = certeus(locked, "forget", "relay")
    assert (code, f"in use by pid {os.getpid()}" in err) == (Exit.TRY_AGAIN, True)
    assert (locked / "followers" / "relay").exists()


def test_a_forgotten_follower_that_comes_back_is_told_and_skips_nothing(state: Path) -> None:
    reader = LogReader(state / "log")
    batch = reader.next_batch(2, 10, 1 << 20)
    assert batch is not None
    confirm(state, "relay", batch.group, batch.last_seq)
    followers.forget(state / "followers", "relay")
    min((state / "log").glob("*.log")).unlink()
    for group, seq, root in ((batch.group, batch.last_seq, batch.root), (0, 0, bytes(32))):
        assert LogReader(state / "log").position_status(group, root, seq) == "behind-log"
    left = asyncio.run(asyncio.to_thread(shown.seen, state / "log", state / "followers", 9))
    assert [row.name for row in left.followers] == ["postgres"]
