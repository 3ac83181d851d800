"""The log as a backup copies it: every segment held from the first moment, cut where it ends.

A segment that is `flock`ed shared is not recycled, and one that is unlinked meanwhile is still in
the open file. So nothing that was there at the first look can go. A thread looks for new ones again
and again while the database is copied; a segment has its name before it is begun and until it is
flushed and trimmed, so only a log that does all that within a look could lose one, which shows,
because their numbers are dense. Sidecars are held the same way, by being open: those that the dedup
window needs at the end are among them.
"""

import contextlib
import fcntl
import os
import resource
import struct
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from certeusd.backup.manifest import SEGMENT, SIDECAR, LogPart
from certeusd.backup.target import CHUNK_BYTES, Target
from certeusd.exits import Exit, ExitError
from certeusd.log import followers, identity
from certeusd.log.reader import LogReader, log_group_of

SEGMENT_HEADER_BYTES = 4096
_BEFORE = struct.Struct("<QQ")
_BEFORE_OFFSET = 80
"""Of `before_group` and `before_next_seq` in a segment's header (`daemon/src/format.rs`)."""
END_TIMEOUT_S = 10.0
_PAUSE_S = 0.02


class End(NamedTuple):
    """Where the copy ends: behind a whole durable group."""

    segment_no: int
    offset: int
    """Bytes of that segment that belong to the log."""
    seq: int
    group: int
    root: str
    hash: str
    """Both empty where the last group has no record."""


class HeldSegments:
    """Open, locked segments by number; nothing of them can be used again while they are held."""

    def __init__(self, log_dir: Path) -> None:
        self.log_dir = log_dir
        self.trimmed_meanwhile: set[int] = set()
        self._files: dict[int, int] = {}
        self._sidecars: dict[str, int] = {}
        self._looking = threading.Lock()
        self._ended = threading.Event()
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._follow, daemon=True)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.look()
        self._first_looked = max(self._files, default=0)
        # What is older than one that went before we had it is trimmed, too: no part of the log.
        floor = max(self.trimmed_meanwhile, default=0)
        for number in [one for one in self._files if one < floor]:
            self.release(number)
            self.trimmed_meanwhile.add(number)
        self._thread.start()

    def _follow(self) -> None:
        try:
            while not self._ended.wait(_PAUSE_S):
                self.look()
        except OSError as error:
            self._failure = error

    def look(self) -> None:
        """Hold what is there and not held yet, and what took the place of one that is.

        Raises:
            OSError: a segment cannot be opened.
        """
        with self._looking:
            self._look()

    def _look(self) -> None:
        names = os.listdir(self.log_dir)
        self._look_at_sidecars(names)
        for number in sorted(_numbers(names)):
            path = self.log_dir / f"{number:020}.log"
            known = self._files.get(number)
            if known is not None:
                if not _is_another(known, path):
                    continue
                # A start that had logged nothing gives its number to the next one.
                self.release(number)
            descriptor = _held(path)
            if descriptor is None:
                self.trimmed_meanwhile.add(number)
            else:
                self._files[number] = descriptor

    def _look_at_sidecars(self, names: list[str]) -> None:
        for name in filter(SIDECAR.fullmatch, names):
            path, known = self.log_dir / name, self._sidecars.get(name)
            if known is None or _is_another(known, path):
                with contextlib.suppress(FileNotFoundError):
                    self._sidecars[name] = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                    if known is not None:
                        os.close(known)

    def numbers(self, last: int) -> list[int]:
        """Return what is held up to `last`, ascending; nothing new is held from now on.

        Raises:
            ExitError: 75, the log was trimmed faster than it could be held.
            OSError: a segment could not be opened.
        """
        self._end()
        self.look()
        if self._failure is not None:
            raise self._failure
        found = [number for number in sorted(self._files) if number <= last]
        missed = sorted({*range(self._first_looked + 1, last + 1)} - {*found})
        if missed:
            raise ExitError(
                Exit.TRY_AGAIN,
                f"cannot hold segment {missed[0]}: it was trimmed before it could be copied; raise"
                " log.retain_bytes, or try again while less is appended",
            )
        return found

    def size(self, number: int) -> int:
        """Bytes of a held segment's file, as it is now."""
        return os.fstat(self._files[number]).st_size

    def chunks(self, number: int, length: int) -> Iterator[bytes]:
        """Return the first `length` bytes of a segment, as far as there are any."""
        return _chunks(self._files[number], length)

    def before(self, number: int) -> tuple[int, int]:
        """Group and next seq of the log before a held segment, whether it is still named or not."""
        found: tuple[int, int] = _BEFORE.unpack(
            os.pread(self._files[number], _BEFORE.size, _BEFORE_OFFSET)
        )
        return found

    def sidecars(self, end: int) -> Iterator[tuple[str, int, Iterator[bytes]]]:
        """Name, length and bytes of every sidecar of segments below `end` that was ever there."""
        for name, descriptor in sorted(self._sidecars.items()):
            found = SIDECAR.fullmatch(name)
            if found and int(found[1]) < end:
                length = os.fstat(descriptor).st_size
                yield name, length, _chunks(descriptor, length)

    def release(self, number: int) -> None:
        """Let a segment go that was copied."""
        os.close(self._files.pop(number))

    def _end(self) -> None:
        self._ended.set()
        self._thread.join()

    def close(self) -> None:
        """Let all of them go."""
        self._end()
        for number in list(self._files):
            self.release(number)
        while self._sidecars:
            os.close(self._sidecars.popitem()[1])


def _chunks(descriptor: int, length: int) -> Iterator[bytes]:
    offset = 0
    while offset < length:
        chunk = os.pread(descriptor, min(CHUNK_BYTES, length - offset), offset)
        if not chunk:
            return
        yield chunk
        offset += len(chunk)


def _held(path: Path) -> int | None:
    """Open and lock a segment for reading; None: it went, or its name is another file's now."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    deadline = time.monotonic() + END_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            # It is just being made a spare again, which is a matter of milliseconds.
            time.sleep(_PAUSE_S)
            continue
        if path.exists() and not _is_another(descriptor, path):
            return descriptor
        break
    os.close(descriptor)
    return None


def _is_another(descriptor: int, path: Path) -> bool:
    """Whether `path` names another file than the open one; not so if nothing has that name."""
    ours = os.fstat(descriptor)
    try:
        named = path.lstat()
    except FileNotFoundError:
        return False
    return (named.st_dev, named.st_ino) != (ours.st_dev, ours.st_ino)


def _numbers(names: list[str]) -> Iterator[int]:
    for name in names:
        if found := SEGMENT.fullmatch(name):
            yield int(found[1])


def end_of(log_dir: Path, durable_seq: Callable[[], int] | None) -> End | None:
    """Return where the log ends now: with the group of the durable number that the daemon names.

    Args:
        log_dir: where the segments are.
        durable_seq: asks the daemon; None: there is none, and the last whole group is the end.

    Returns:
        None: there is no segment yet.
    """
    deadline = time.monotonic() + END_TIMEOUT_S
    while time.monotonic() < deadline:
        begins = followers.begins(log_dir)
        if not begins:
            return None
        durable = durable_seq() if durable_seq else followers.last_seq(log_dir, begins)
        view = log_group_of(log_dir, durable) if durable else None
        if view is not None:
            return End(view["segment_no"], view["offset"] + view["bytes"], view["last_seq"],
                       view["group"], view["root"].hex(), view["hash"].hex())  # fmt: skip
        # The last number is a gap's, or there is none: then what follows has no numbers either.
        last = LogReader(log_dir).segments()[-1:]
        if last and last[0]["last_seq"] <= durable:
            found = last[0]
            return End(found["segment_no"], found["used_bytes"], durable, found["last_group"],
                       "", "")  # fmt: skip
        time.sleep(_PAUSE_S)
    raise ExitError(
        Exit.TRY_AGAIN, f"cannot find the end of {log_dir}: it is just being opened; try again"
    )


def name_of(log_dir: Path) -> str | None:
    """Return the log's name; None: there is no log yet."""
    oldest = LogReader(log_dir).oldest()
    if oldest is None:
        return None
    return str(identity.of_log(log_dir, uuid.UUID(bytes=oldest["log_uuid"])).log_uuid)


def copy(held: HeldSegments, end: End, target: Target) -> LogPart:
    """Copy segments up to `end`, their sidecars and the log's name into `log/`."""
    numbers = held.numbers(end.segment_no)
    before_group, next_seq = held.before(numbers[0]) if numbers else (0, 1)
    for number in numbers:
        length = end.offset if number == end.segment_no else held.size(number)
        target.add(f"log/{number:020}.log", length, held.chunks(number, length))
        held.release(number)
    # The one of the last segment would be of more than is copied: a start reads the segment.
    for name, length, chunks in held.sidecars(end.segment_no):
        target.add(f"log/{name}", length, chunks)
    with contextlib.suppress(FileNotFoundError):
        target.add_bytes(f"log/{identity.FILE}", (held.log_dir / identity.FILE).read_bytes())
    return LogPart(
        first_seq=next_seq,
        last_seq=end.seq,
        first_group=before_group + 1,
        last_group=end.group,
        last_root=end.root,
        last_hash=end.hash,
        segments=len(numbers),
        trimmed_meanwhile=sorted(held.trimmed_meanwhile - {*numbers}),
    )
