"""Reading a backup back: each file once, with its checksum, from a directory or a tar file.

What is in it is not trusted: only names that a backup may have are looked at, only plain files, and
a tar file must be nothing but those, to the last byte of its padding.
"""

import hashlib
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from certeusd.backup import manifest as manifests
from certeusd.backup.manifest import FileEntry, Manifest, ManifestError
from certeusd.backup.target import Tell, open_new, read_chunks, silent

TAR_BLOCK = 512
MANIFEST_BYTES_MAX = 256 << 20


class Fault(NamedTuple):
    """Something that is wrong with a backup; `reason` is a stable word."""

    path: str
    reason: str
    what: str


class Opened(NamedTuple):
    """What one pass over a backup found."""

    manifest: Manifest
    faults: list[Fault]


def read(place: Path, into: Callable[[str], Path | None], tell: Tell = silent) -> Opened:
    """Go over every file of a backup, compare it with the manifest, and copy some of them.

    Args:
        place: a directory or a tar file.
        into: where a file is copied to, by its name (made 0600 and synced); None: nowhere.
        tell: of the progress.

    Raises:
        ManifestError: there is none, or none to believe: this is no backup.
        OSError: the disk's.
    """
    seen: dict[str, FileEntry] = {}
    faults: list[Fault] = []
    text: bytes | None = None
    source = _of_directory(place, faults) if place.is_dir() else _of_tar(place, faults)
    for name, length, file in source:
        if name == manifests.NAME and length <= MANIFEST_BYTES_MAX:
            text = file.read(length)
        elif name in seen or not manifests.ALLOWED.fullmatch(name):
            faults.append(Fault(name, "extra-file", "is not of this backup"))
        else:
            seen[name] = _taken(name, file, into(name), tell)
    if text is None:
        raise ManifestError(
            f"cannot read {place}: it has no {manifests.NAME}, so it is no backup, or one that was"
            " never finished; use another"
        )
    manifest = manifests.parse(text, place)
    faults += _compared(manifest, seen)
    return Opened(manifest, faults)


def _compared(manifest: Manifest, seen: dict[str, FileEntry]) -> Iterator[Fault]:
    wanted = {one.path: one for one in manifest.files}
    for name, entry in wanted.items():
        found = seen.get(name)
        if found is None:
            yield Fault(name, "missing-file", "is named by the manifest and not there")
        elif found.bytes != entry.bytes:
            what = f"has {found.bytes} bytes, the manifest says {entry.bytes}"
            yield Fault(name, "wrong-size", what)
        elif found.sha256 != entry.sha256:
            yield Fault(name, "wrong-checksum", "is not what was backed up")
    for name in seen.keys() - wanted.keys():
        yield Fault(name, "extra-file", "is not named by the manifest")


def _taken(name: str, file: IO[bytes], to: Path | None, tell: Tell) -> FileEntry:
    digest, length = hashlib.sha256(), 0
    out = None if to is None else open_new(to)
    try:
        for chunk in read_chunks(file):
            digest.update(chunk)
            length += len(chunk)
            tell(name, len(chunk))
            if out is not None:
                out.write(chunk)
        if out is not None:
            out.flush()
            os.fsync(out.fileno())
    finally:
        if out is not None:
            out.close()
    return FileEntry(name, length, digest.hexdigest())


def _of_directory(place: Path, faults: list[Fault]) -> Iterator[tuple[str, int, IO[bytes]]]:
    for path in sorted(place.rglob("*")):
        name, at = str(path.relative_to(place)), path.lstat()
        if stat.S_ISDIR(at.st_mode):
            continue
        if not stat.S_ISREG(at.st_mode):
            faults.append(Fault(name, "extra-file", "is no plain file"))
            continue
        with path.open("rb") as file:
            yield name, at.st_size, file


def _of_tar(place: Path, faults: list[Fault]) -> Iterator[tuple[str, int, IO[bytes]]]:
    end = 0
    with place.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:") as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isreg() else None
            if file is None or member.sparse is not None or member.offset != end:
                faults.append(Fault(member.name, "extra-file", "is no plain file of a backup"))
                continue
            with file:
                yield member.name, member.size, file
            end = member.offset_data + member.size
            padded = -(-end // TAR_BLOCK) * TAR_BLOCK
            if any(os.pread(raw.fileno(), padded - end, end)):
                faults.append(Fault(member.name, "altered-padding", "has bytes behind its end"))
            end = padded
        for offset in range(end, place.stat().st_size, 1 << 20):
            if any(os.pread(raw.fileno(), 1 << 20, offset)):
                faults.append(Fault(place.name, "altered-padding", "has bytes behind its end"))
                break
