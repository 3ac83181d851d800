"""What followers have confirmed, as their synced position files say."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FollowerPosition:
    """The last group that a required follower has for good; zeros for nothing yet."""

    group: int = 0
    seq: int = 0
    root: bytes = bytes(32)


def read_position(followers_dir: Path, name: str = "postgres") -> FollowerPosition:
    """Read `followers/NAME`, which the follower replaces atomically.

    A file that is missing or damaged counts as nothing confirmed: the log then only loses the
    floor below which it must not end.
    """
    try:
        told = json.loads((followers_dir / name).read_bytes())
        group, seq, root = int(told["group"]), int(told["seq"]), bytes.fromhex(told["root"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return FollowerPosition()
    proper = 0 <= group < 1 << 63 and 0 <= seq < 1 << 63 and len(root) == 32
    return FollowerPosition(group, seq, root) if proper else FollowerPosition()
