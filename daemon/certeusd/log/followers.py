"""Who follows the log, how far behind, and letting go of one that will not come back.

`followers/NAME` is the last position that follower NAME has synced, and its time is when it did.
A *required* follower holds segments: the log is trimmed only behind it. It is never let go of,
since what it has not delivered is nowhere else.
"""

import os
import re
import stat
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from certeusd._native import LogReader, log_begins
from certeusd.log.follower import FollowerPosition, read_position

REQUIRED = ("postgres",)
"""Whose position the log writer waits for; each is shown before it has delivered anything, too."""
NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
NO_POSITION = FollowerPosition()
_BATCH_ROWS, _BATCH_BYTES = 4096, 1 << 22


class Begin(NamedTuple):
    """A segment whose header can be read, and where the log stood before it."""

    segment_no: int
    file_bytes: int
    before_group: int
    before_next_seq: int
    before_root: bytes


class Follower(NamedTuple):
    """One follower, as its position file and the log's segments tell."""

    name: str
    required: bool
    state: str
    """`confirmed`; `none`: nothing yet; `damaged`: the file says nothing that can be believed."""
    group: int
    seq: int
    confirmed_at: float | None
    """Seconds since 1970."""
    lag_events: int
    lag_bytes: int
    """Of complete segments with events that it has not."""

    @property
    def holds_back(self) -> bool:
        """Whether segments stay because of it."""
        return self.required and self.lag_bytes > 0


class RequiredError(Exception):
    """The follower is required: what it has not is nowhere else."""


def begins(log_dir: Path) -> list[Begin]:
    """Return the log's segments, oldest first. `OSError`, `ValueError`: it cannot be read."""
    return [Begin(*one) for one in log_begins(log_dir)]


def last_seq(log_dir: Path, segments: Sequence[Begin]) -> int:
    """Return the log's last number, for when there is no daemon to ask; reads one segment."""
    if not segments:
        return 0
    newest = segments[-1]
    last = newest.before_next_seq - 1
    reader = LogReader(log_dir)
    reader.seek(newest.before_group, last, newest.before_root)
    while (batch := reader.next_batch(1 << 62, _BATCH_ROWS, _BATCH_BYTES)) is not None:
        last = batch.last_seq
    return last


def listed(followers_dir: Path, segments: Sequence[Begin], durable_seq: int) -> list[Follower]:
    """Return every follower, by name.

    Raises:
        OSError: the directory or a file in it cannot be read.
    """
    try:
        there = {one.name for one in followers_dir.iterdir() if NAME.fullmatch(one.name)}
    except FileNotFoundError:
        there = set[str]()
    return [
        _seen(followers_dir / name, segments, durable_seq) for name in sorted(there | {*REQUIRED})
    ]


def _seen(path: Path, segments: Sequence[Begin], durable_seq: int) -> Follower:
    position, confirmed_at, state = NO_POSITION, None, "none"
    try:
        confirmed_at = path.stat().st_mtime
    except FileNotFoundError:
        pass
    else:
        position = read_position(path.parent, path.name)
        state = "damaged" if position == NO_POSITION else "confirmed"
    # A segment is needed as long as the next one begins above what the follower has.
    ends = [one.before_next_seq for one in segments[1:]]
    gone = bisect_right(ends, position.seq + 1)
    return Follower(
        name=path.name,
        required=path.name in REQUIRED,
        state=state,
        group=position.group,
        seq=position.seq,
        confirmed_at=confirmed_at,
        lag_events=max(0, durable_seq - position.seq),
        lag_bytes=sum(one.file_bytes for one in segments[gone:-1]),
    )


def forget(followers_dir: Path, name: str) -> None:
    """Remove the position of a follower; durable when this returns.

    Should it come back, it is told `behind-log` where the log has gone on without it.

    Raises:
        RequiredError: it is required; nothing was done.
        FileNotFoundError: there is none of that name.
        OSError: the disk's; it may be gone or not, trying again is safe.
    """
    if name in REQUIRED:
        raise RequiredError(name)
    path = followers_dir / name
    if not NAME.fullmatch(name) or not stat.S_ISREG(path.lstat().st_mode):
        raise FileNotFoundError(f"no follower {name}")
    path.unlink()
    directory = os.open(followers_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
