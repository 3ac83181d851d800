"""Where a backup is written: a directory, or one tar file; nothing has its name before it is whole.

Everything goes to `NAME.partial`, which is locked while somebody writes it, and gets its name when
the manifest is in it and all is synced. What a killed one left is removed by the next one, if it is
of this user, no link, and nothing but what a backup leaves. Who has the lock has the names, until
the lock or the name goes: nobody else writes or removes them.
"""

import contextlib
import fcntl
import hashlib
import io
import os
import re
import shutil
import stat
import tarfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, BinaryIO

from certeusd.backup import manifest as manifests
from certeusd.backup.manifest import FileEntry, Manifest
from certeusd.exits import Exit, ExitError

CHUNK_BYTES = 1 << 20
LEFT = re.compile(
    rf"{manifests.ALLOWED.pattern}|{re.escape(manifests.NAME)}"
    r"|staging/(?:base\.tar|pg_basebackup\.said|postgres/[^/]+)"
)
"""Every file that one which was killed may have left in a directory."""

Tell = Callable[[str, int], None]
"""Called with the name of what is written and the bytes that were."""


def silent(_: str, __: int) -> None:
    """Tell nobody."""


class Target(ABC):
    """Takes files one by one, with their sizes known before."""

    def __init__(self, path: Path, tell: Tell = silent) -> None:
        self.path = path
        self.partial = path.with_name(path.name + ".partial")
        self.entries: list[FileEntry] = []
        self.tell = tell
        self._is_named = False

    @property
    @abstractmethod
    def staging(self) -> Path:
        """A directory on the same disk, for what other programs write; goes with the partial."""

    @abstractmethod
    def _put(self, name: str, length: int, chunks: Iterable[bytes]) -> None: ...

    @abstractmethod
    def _close(self) -> None:
        """Have everything synced."""

    @abstractmethod
    def discard(self) -> None:
        """Leave nothing, unless it has its name; another one may begin."""

    def add(self, name: str, length: int, chunks: Iterable[bytes]) -> None:
        """Write one file of exactly `length` bytes; what `chunks` lacks of it becomes zeros."""
        assert manifests.ALLOWED.fullmatch(name), f"{name} is no name of a backup"
        digest = hashlib.sha256()

        def seen() -> Iterator[bytes]:
            for chunk in _exactly(length, chunks):
                digest.update(chunk)
                self.tell(name, len(chunk))
                yield chunk

        self._put(name, length, seen())
        self.entries.append(FileEntry(name, length, digest.hexdigest()))

    def add_bytes(self, name: str, content: bytes) -> None:
        """Write one small file."""
        self.add(name, len(content), [content])

    def add_staged(self, name: str, file: Path) -> None:
        """Take over a file that another program wrote into `staging`."""
        with file.open("rb") as source:
            self.add(name, file.stat().st_size, read_chunks(source))
        file.unlink(missing_ok=True)

    def finish(self, manifest: Manifest) -> None:
        """Write the manifest last, sync, and give the backup its name."""
        text = manifests.render(manifest)
        self._put(manifests.NAME, len(text), [text])
        self._close()
        if self.path.exists():
            raise _exists(self.path)
        self.partial.rename(self.path)
        # From here on the names are those of who takes them next.
        self._is_named = True
        sync_directory(self.path.parent)


class DirectoryTarget(Target):
    """A directory of files."""

    def __init__(self, path: Path, tell: Tell = silent) -> None:
        super().__init__(path, tell)
        self._staging = self.partial / "staging"
        with contextlib.suppress(FileExistsError):
            self.partial.mkdir(mode=0o700)
        self._lock = _locked(self.partial, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _take_over(self._lock, self.partial, stat.S_IFDIR, 0o700)
            _empty(self.partial)
        except BaseException:
            os.close(self._lock)
            raise
        self._staging.mkdir(mode=0o700)

    @property
    def staging(self) -> Path:
        """Inside the partial one, or beside it."""
        return self._staging

    def _put(self, name: str, length: int, chunks: Iterable[bytes]) -> None:
        path = self.partial / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with open_new(path) as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())

    def _close(self) -> None:
        shutil.rmtree(self._staging)
        for directory in (*(one for one in self.partial.iterdir() if one.is_dir()), self.partial):
            sync_directory(directory)

    def discard(self) -> None:
        """Remove what has not got its name."""
        if not self._is_named:
            shutil.rmtree(self.partial, ignore_errors=True)
        os.close(self._lock)


class TarTarget(Target):
    """One tar file, which ends with the manifest."""

    def __init__(self, path: Path, tell: Tell = silent) -> None:
        super().__init__(path, tell)
        self._staging = path.with_name(path.name + ".partial.staging")
        self._lock = _locked(self.partial, os.O_RDWR | os.O_CREAT)
        try:
            _take_over(self._lock, self.partial, stat.S_IFREG, 0o600)
        except BaseException:
            os.close(self._lock)
            raise
        os.ftruncate(self._lock, 0)
        shutil.rmtree(self._staging, ignore_errors=True)
        self._staging.mkdir(mode=0o700)
        self._file = os.fdopen(os.dup(self._lock), "r+b")
        self._tar = tarfile.TarFile(fileobj=self._file, mode="w", format=tarfile.GNU_FORMAT)

    @property
    def staging(self) -> Path:
        """Inside the partial one, or beside it."""
        return self._staging

    def _put(self, name: str, length: int, chunks: Iterable[bytes]) -> None:
        member = tarfile.TarInfo(name)
        member.size, member.mode, member.mtime = length, 0o600, int(time.time())
        self._tar.addfile(member, _Stream(iter(chunks)))

    def _close(self) -> None:
        shutil.rmtree(self._staging)
        self._tar.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def discard(self) -> None:
        """Remove what has not got its name."""
        if not self._is_named:
            shutil.rmtree(self._staging, ignore_errors=True)
            self.partial.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            self._file.close()
        os.close(self._lock)


class _Stream(io.RawIOBase):
    """Chunks as a file that can be read."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = b""

    def read(self, size: int = -1) -> bytes:
        """Return exactly `size` bytes, which the caller knows to be there."""
        parts = [self._left]
        have = len(self._left)
        while have < size and (chunk := next(self._chunks, b"")):
            parts.append(chunk)
            have += len(chunk)
        whole = b"".join(parts)
        self._left = whole[size:]
        return whole[:size]


def at(path: Path, tell: Tell = silent) -> Target:
    """Begin a backup at `path`: a tar file if its name ends so, else a directory.

    Raises:
        ExitError: 1 there is something already, 75 somebody is at it, 77 we may not.
    """
    if path.exists() or path.is_symlink():
        raise _exists(path)
    try:
        target = TarTarget(path, tell) if path.suffix == ".tar" else DirectoryTarget(path, tell)
        if path.exists() or path.is_symlink():
            # Another one got its name between our first look and our lock.
            target.discard()
            raise _exists(path)
        return target
    except PermissionError as error:
        raise ExitError(
            Exit.NOT_ALLOWED, f"cannot write {path}: not allowed; choose another place"
        ) from error
    except OSError as error:
        raise ExitError(
            Exit.FAILED, f"cannot write {path}: {error.strerror}; choose another place"
        ) from error


def read_chunks(source: IO[bytes]) -> Iterator[bytes]:
    """Read a file to its end."""
    while chunk := source.read(CHUNK_BYTES):
        yield chunk


def open_new(path: Path) -> BinaryIO:
    """Make a file that only we can read."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def sync_directory(directory: Path) -> None:
    """Have the names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exactly(length: int, chunks: Iterable[bytes]) -> Iterator[bytes]:
    left = length
    for chunk in chunks:
        if left == 0:
            return
        yield chunk[:left]
        left -= min(left, len(chunk))
    while left > 0:
        yield bytes(min(left, CHUNK_BYTES))
        left -= min(left, CHUNK_BYTES)


def _locked(partial: Path, flags: int) -> int:
    descriptor = os.open(partial, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever had it may have given it its name, or removed it, before we had the lock.
        if not _is_named(partial, descriptor):
            raise BlockingIOError
    except BlockingIOError:
        os.close(descriptor)
        raise ExitError(
            Exit.TRY_AGAIN, f"cannot write {partial}: another backup is at it; wait for its end"
        ) from None
    return descriptor


def _is_named(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _take_over(descriptor: int, partial: Path, kind: int, mode: int) -> None:
    """Have what was there be ours alone; 1 if it is of another user, or no plain file."""
    there = os.fstat(descriptor)
    # A directory has links; a second one of a file is another name, whose content would go.
    is_plain = kind == stat.S_IFDIR or there.st_nlink == 1
    if there.st_uid != os.geteuid() or stat.S_IFMT(there.st_mode) != kind or not is_plain:
        raise _foreign(partial, "another user's, or not what a backup leaves")
    os.fchmod(descriptor, mode)


def _empty(directory: Path) -> None:
    """Remove what a killed one left; 1, and nothing is removed, if anything else is there."""
    for place, _, names in os.walk(directory):
        for name in names:
            file = str(Path(place, name).relative_to(directory))
            if not LEFT.fullmatch(file):
                raise _foreign(directory, f"{file} is not of a backup")
    for one in directory.iterdir():
        if one.is_dir() and not one.is_symlink():
            shutil.rmtree(one)
        else:
            one.unlink()


def _foreign(partial: Path, why: str) -> ExitError:
    return ExitError(
        Exit.FAILED, f"cannot use {partial}: {why}; move it away, or choose another name"
    )


def _exists(path: Path) -> ExitError:
    return ExitError(
        Exit.FAILED, f"cannot make a backup at {path}: it exists already; choose another name"
    )
