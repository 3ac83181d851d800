"""Which log this is: the name in its segments, or the one that `certeus log fork` gave it since.

A fork changes no byte of the log. `log/identity.json` names the new log and every one that it was
before, oldest first; the follower looks under those names for what it has delivered already. The
file is whole or not there, and one that cannot be believed stops the log: under its old name, a
copy would deliver over what is another one's.
"""

import json
import uuid
from pathlib import Path
from typing import NamedTuple

from certeusd.log import whole_file

FILE = "identity.json"
_VERSION = 1


class Identity(NamedTuple):
    """What the log is called, and what it was called before, oldest first."""

    log_uuid: uuid.UUID
    before: tuple[uuid.UUID, ...] = ()


def read(log_dir: Path) -> Identity | None:
    """Return the name that a fork gave; `None`: it still has the one of its segments.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no file that a fork has written.
    """
    path = log_dir / FILE
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    try:
        told = json.loads(text)
        if told["version"] != _VERSION:
            raise ValueError(f"version {told['version']}")
        before = tuple(uuid.UUID(one) for one in told["before"])
        return Identity(uuid.UUID(told["log_id"]), before)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"cannot read {path}: {error}; put it back from a copy") from error


def of_log(log_dir: Path, segments_uuid: uuid.UUID) -> Identity:
    """Return the name of the log whose segments bear `segments_uuid`.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file was made for another log, or cannot be believed.
    """
    named = read(log_dir)
    if named is None:
        return Identity(segments_uuid)
    if named.before[:1] != (segments_uuid,):
        raise ValueError(
            f"cannot believe {log_dir / FILE}: it is of another log than the segments, which are of"
            f" {segments_uuid}; move it away"
        )
    return named


def fork(log_dir: Path, now: Identity) -> Identity:
    """Give the log a new name; durable when this returns. The caller holds the log's locks."""
    fresh = Identity(uuid.uuid4(), (*now.before, now.log_uuid))
    text = json.dumps({
        "version": _VERSION,
        "log_id": str(fresh.log_uuid),
        "before": [str(one) for one in fresh.before],
    })  # fmt: skip
    whole_file.replace(log_dir / FILE, text + "\n")
    return fresh
