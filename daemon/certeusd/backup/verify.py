"""Whether a backup is whole: every checksum, and its log by the code of `certeus log check`."""

import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from certeusd.backup.manifest import LogPart, Manifest
from certeusd.backup.reading import Fault, read
from certeusd.backup.target import Tell, silent
from certeusd.log.reader import LogReader, log_group_of

KEY = "keys/log.key"
KEY_BYTES = 32


class Verified(NamedTuple):
    """What was looked at, and what is wrong."""

    manifest: Manifest
    faults: list[Fault]
    roots_checked: bool
    """Whether the log's key was there, so that roots were computed again."""


def verify(
    place: Path, *, key: bytes | None = None, work_dir: Path | None = None, tell: Tell = silent
) -> Verified:
    """Look at everything; writes nothing, but for a tar file its log into a temporary directory.

    Raises:
        ManifestError: it is no backup at all.
        OSError: the disk's.
    """
    if place.is_dir():
        opened = read(place, lambda _: None, tell)
        return log_checked(opened.manifest, opened.faults, place, key)
    with tempfile.TemporaryDirectory(prefix="certeus-verify-", dir=work_dir) as scratch:
        root = Path(scratch)
        (root / "log").mkdir()
        opened = read(place, lambda name: root / name if name.startswith("log/") else None, tell)
        return log_checked(opened.manifest, opened.faults, root, key or _key_in(place))


def _key_in(place: Path) -> bytes | None:
    """Read the key of a tar file into memory alone: no kill leaves a copy on a disk."""
    with tarfile.open(place, "r:") as tar:
        file = next((tar.extractfile(one) for one in tar if one.name == KEY and one.isreg()), None)
        return None if file is None else file.read(KEY_BYTES)


def log_checked(manifest: Manifest, faults: list[Fault], root: Path, key: bytes | None) -> Verified:
    """Check the log under `root`, and that it is the one that the manifest describes.

    Raises:
        OSError: the disk's.
        ValueError: the log holds what this version cannot read.
    """
    if key is None and (root / KEY).is_file():
        key = (root / KEY).read_bytes()
    if manifest.log is None:
        return Verified(manifest, faults, roots_checked=False)
    report = LogReader(root / "log").check(None, key)
    found = [
        Fault(
            f"log/{one['segment_no']:020}.log",
            one["reason"],
            f"{one['bytes']} bytes at {one['offset']}, seq {one['first_seq']}..{one['last_seq']}",
        )
        for one in report["findings"]
    ]
    found += _compared(manifest.log, root / "log", len(report["segments"]))
    return Verified(manifest, [*faults, *found], report["roots_checked"])


def _compared(part: LogPart, log_dir: Path, segments: int) -> Iterator[Fault]:
    if segments != part.segments:
        what = f"has {segments} segments, the manifest says {part.segments}"
        yield Fault("log", "wrong-segments", what)
    oldest = LogReader(log_dir).oldest()
    begin = None if oldest is None else (oldest["before_group"] + 1, oldest["before_next_seq"])
    if begin not in (None, (part.first_group, part.first_seq)):
        what = f"does not begin with group {part.first_group}, seq {part.first_seq}"
        yield Fault("log", "wrong-begin", what)
    if not part.last_hash:
        return
    view = log_group_of(log_dir, part.last_seq)
    seen = None if view is None else (view["group"], view["root"].hex(), view["hash"].hex())
    if seen != (part.last_group, part.last_root, part.last_hash):
        what = f"does not end with group {part.last_group}, seq {part.last_seq}"
        yield Fault("log", "wrong-end", what)
