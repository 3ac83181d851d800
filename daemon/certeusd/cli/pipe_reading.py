"""Reading one generation forward, and seeing that it still is what was read.

Each read begins with the last bytes that were read before, so that a file which was truncated and
written again is noticed also when it is as long as it was.
"""

import os
import stat
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from certeusd.cli.appending import Cut, Cutter
from certeusd.cli.pipe_positions import HEAD_BYTES, TAIL_BYTES, Generation, digest, new_generation
from certeusd.cli.pipe_rotation import Entry, is_rotated
from certeusd.exits import Exit, ExitError

READ_BYTES = 64 * 1024
SCANS_MAX = 10
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class Truncated(Exception):
    """The file is not what was read of it: somebody cut it, and may have written it again."""


class Mark(NamedTuple):
    """How far a generation is once some ticket has its verdict."""

    position: int
    tail: str


class Chunk(NamedTuple):
    """Whole lines of a generation."""

    cut: Cut
    mark: Mark


class Reading:
    """One generation that is open."""

    def __init__(self, generation: Generation, file: int, name: str) -> None:
        """Go on at the generation's position; `file` is ours from now on."""
        self.generation = generation
        self.name = name
        self.quiet_since: float | None = None
        self._file = file
        self.device = os.fstat(file).st_dev
        self.rewind()

    def rewind(self) -> None:
        """Begin at the generation's position again."""
        generation, file = self.generation, self._file
        self.at_end = False
        self._offset = generation.position
        self._cutter = Cutter(generation.position)
        # All of it is before what comes next, or beyond: never is there a gap between them.
        self._head = os.pread(file, generation.head_bytes, 0)
        length = min(TAIL_BYTES, self._offset)
        self._before = os.pread(file, length, self._offset - length)

    def close(self) -> None:
        """Give the file back."""
        os.close(self._file)

    def is_of(self, entry: Entry) -> bool:
        """Whether this is the file that is open: inode numbers are a device's own."""
        return (self.device, self.generation.inode) == (entry.device, entry.inode)

    @property
    def next_line(self) -> int:
        """The byte at which the line begins that is not whole yet."""
        return self._cutter.start

    @property
    def unread(self) -> bool:
        """Whether no byte was read, by us or by those before us."""
        return not self._offset and not self.generation.head_bytes

    @property
    def drained(self) -> bool:
        """Whether there is nothing more, not even half a line."""
        return self.at_end and self.next_line == self._offset

    def read(self) -> Chunk | None:
        """Return what the next block completes; None at the end of the file.

        Raises:
            Truncated: nothing more can be read here.
        """
        if os.fstat(self._file).st_size < self._offset:
            raise Truncated
        at, before = self._offset, len(self._before)
        data = os.pread(self._file, before + READ_BYTES, at - before)
        if not data.startswith(self._before):
            raise Truncated
        block = data[before:]
        self.at_end = not block
        if not block:
            return None
        self._offset += len(block)
        self._before = data[-TAIL_BYTES:]
        if len(self._head) < HEAD_BYTES:
            self._head += block[len(self._head) - at : HEAD_BYTES - at]
        cut = self._cutter.feed(block)
        return Chunk(cut, self._mark(data))

    def finish(self) -> Chunk:
        """Return the last line, which has no end."""
        return Chunk(self._cutter.finish(), self._mark(self._before))

    def _mark(self, data: bytes) -> Mark:
        """Return the mark at `next_line`, if it is within `data`, which ends at the offset."""
        until = data[: max(len(data) - self._offset + self.next_line, 0)]
        return Mark(self.next_line, digest(until[-TAIL_BYTES:]))

    def note_head(self) -> bool:
        """Have the generation's head cover all that was read; return whether that is new."""
        head = self._head[: self.next_line]
        if len(head) <= self.generation.head_bytes:
            return False
        self.generation.head_bytes = len(head)
        self.generation.head = digest(head)
        return True


def same(generation: Generation, entry: Entry) -> bool:
    """Whether a file's content agrees with what is known of a generation."""
    try:
        file = os.open(entry.path, _FLAGS)
    except OSError:
        return False
    try:
        return agrees(generation, file)
    finally:
        os.close(file)


def agrees(generation: Generation, file: int) -> bool:
    """Whether an open file does."""
    if generation.head_bytes:
        head = os.pread(file, generation.head_bytes, 0)
        if len(head) < generation.head_bytes or digest(head) != generation.head:
            return False
    if generation.position:
        length = min(TAIL_BYTES, generation.position)
        tail = os.pread(file, length, generation.position - length)
        return len(tail) == length and digest(tail) == generation.tail
    return True


def copied(entry: Entry, current: Entry) -> bool:
    """Whether all that a file has is what the one at the path begins with."""
    try:
        with open(entry.path, "rb") as one, open(current.path, "rb") as other:
            while block := one.read(READ_BYTES):
                if other.read(len(block)) != block:
                    return False
            return True
    except OSError:
        return False


def after_power_cut(generation: Generation, entry: Entry) -> Generation | None:
    """Return how to go on with a file whose end a power cut took; None if it is not that file.

    It begins as it did. What was read of it is in the ledger, what comes now is new at the same
    bytes: so it has another token, and goes on at the position, or at its end if that is before.
    """
    if generation.inode != entry.inode or generation.head_bytes < HEAD_BYTES:
        return None
    begins = Generation("", entry.inode, "", head_bytes=HEAD_BYTES, head=generation.head)
    if same(generation, entry) or not same(begins, entry):
        return None
    with open(entry.path, "rb") as file:
        position = min(generation.position, entry.size)
        length = min(TAIL_BYTES, position)
        tail = digest(os.pread(file.fileno(), length, position - length))
    made = new_generation(entry.inode, generation.directory)
    made.position, made.tail = position, tail
    made.head_bytes, made.head = HEAD_BYTES, generation.head
    made.mtime_ns = generation.mtime_ns
    return made


def open_file(path: str) -> int:
    """Open a regular file to be followed.

    Raises:
        FileNotFoundError: it is not there.
        ExitError: it is something else, or not ours to read.
    """
    try:
        _check(path, os.stat(path).st_mode)
        file = os.open(path, _FLAGS)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _cannot(path, error) from error
    try:
        _check(path, os.fstat(file).st_mode)
    except ExitError:
        os.close(file)
        raise
    return file


def _cannot(path: str, error: OSError) -> ExitError:
    if isinstance(error, PermissionError):
        what = f"cannot follow {path}: not allowed; become a user who may read it"
        return ExitError(Exit.NOT_ALLOWED, what)
    what = f"cannot follow {path}: {error.strerror}; mend that and start it again"
    return ExitError(Exit.FAILED, what)


def _check(path: str, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(mode), "no regular file")
        hint = f"; read it with `certeus pipe < {path}`" if stat.S_ISFIFO(mode) else ""
        raise ExitError(Exit.FAILED, f"cannot follow {path}: it is {kind}{hint or '; give a file'}")


def directory_mtime_ns(path: str) -> int:
    """Return when names were last made or taken beside a file; 0 if that cannot be known."""
    try:
        return os.stat(os.path.dirname(os.path.realpath(path))).st_mtime_ns
    except OSError:
        return 0


def current_entry(path: str) -> Entry | None:
    """Return the file at the path, links followed; None if there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _cannot(path, error) from error
    _check(path, found.st_mode)
    return _entry(path, found)


def scan(
    directories: Iterable[str], path: str, known: Collection[int] = ()
) -> tuple[list[Entry], Entry | None] | None:
    """List the files beside the one at `path`, and that one; None while they are being renamed.

    Only rotated names and `known` inodes need to stand still: others may come and go.
    """
    places = sorted({os.path.dirname(path), *directories})
    before: object = None
    for _ in range(SCANS_MAX):
        current = current_entry(path)
        base = os.path.basename(path)
        entries = _each_once(_listed(places), base, current)
        ours = [one for one in entries if one.inode in known or is_rotated(one.name, base)]
        now = [(one.path, one.inode) for one in [*ours, *([current] if current else [])]]
        if now == before:
            return entries, current
        before = now
    return None


def _each_once(entries: list[Entry], base: str, current: Entry | None) -> list[Entry]:
    """Leave out the file at the path, and all but one name of each other file."""
    kept: dict[tuple[int, int], Entry] = {}
    for one in entries:
        key = one.device, one.inode
        if current is None or key != (current.device, current.inode):
            other = kept.setdefault(key, one)
            if is_rotated(one.name, base) and not is_rotated(other.name, base):
                kept[key] = one
    return list(kept.values())


def _listed(directories: list[str]) -> list[Entry]:
    found: list[Entry] = []
    for directory in directories:
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            continue  # That it cannot be listed was told.
        for name in names:
            path = str(Path(directory) / name)
            try:
                one = os.lstat(path)
            except FileNotFoundError:
                continue
            if stat.S_ISREG(one.st_mode):
                found.append(_entry(path, one))
    return found


def _entry(path: str, found: os.stat_result) -> Entry:
    return Entry(
        path, os.path.basename(path), found.st_ino, found.st_size, found.st_mtime_ns, found.st_dev
    )
