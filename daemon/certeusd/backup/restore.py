"""Putting a backup back: whole, or visibly not yet.

Everything is unpacked into `<state-dir>/restoring/`, compared with the manifest while it is, and
checked there; a restore that fails removes it, for nothing else was touched. What is whole and
durable is named `restoring.whole/`, moved into place and that removed. As long as one of the two is
there `certeusd` refuses to start, and a restore that is run again begins anew: only beside
`restoring.whole/`, and only what is missing in it, is taken away where it was moved to. They are
inside the state directory because that may be a mount point, over which nothing can be renamed.
"""

import contextlib
import hashlib
import os
import pwd
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from certeusd.backup import cluster
from certeusd.backup.manifest import Manifest
from certeusd.backup.reading import Fault, read
from certeusd.backup.target import Tell, open_new, silent, sync_directory
from certeusd.backup.verify import Verified, log_checked
from certeusd.exits import Exit, ExitError
from certeusd.paths import Paths
from certeusd.supervisor import locks
from certeusd.supervisor.directories import MOVING, RESTORING

MOVED = ("postgres", "keys", "followers", "doors", "log")
"""In this order, from `restoring/`: the log, without which nothing is, comes last."""
NOT_OURS = frozenset({"lock", "lost+found", RESTORING, MOVING})
KEY_BYTES = 32


class DamagedError(Exception):
    """The backup is not whole: nothing was restored."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__(f"{len(faults)} findings")
        self.faults = faults


class Options(NamedTuple):
    """How to restore."""

    key: Path | None = None
    """Where the log's key is, if it is not in the backup."""
    without_key: bool = False
    owner: str = ""
    """User of the daemon; empty: as it was, or whoever restores."""
    accept_damage: bool = False
    """Restore a log as it was backed up, though a check finds what was damaged before."""


class Owners(NamedTuple):
    """Users that files are given to; None: they stay ours."""

    daemon: pwd.struct_passwd | None
    postgres: pwd.struct_passwd | None


def restore(place: Path, paths: Paths, options: Options, tell: Tell = silent) -> Verified:
    """Restore a backup into a state directory that is empty, or in which a restore was broken off.

    Raises:
        ExitError: 75 a daemon has it, 1 it is not empty, or what else is in the way.
        DamagedError: the backup is not whole.
        OSError: the disk's. In all cases a restore can be tried again.
    """
    state = paths.state_dir
    if not state.exists():
        state.mkdir(parents=True)
        state.chmod(0o711)
    descriptor = locks.hold(paths.lock)
    try:
        _be_empty(state)
        staging = _begin(state)
        try:
            verified = _unpack(place, staging, options, tell)
            owners = _owners(verified.manifest, options)
            _give(staging, owners)
            # A state directory of root's, made here or by hand, is of no use to the daemon's user.
            ours = [state] if state.stat().st_uid == os.geteuid() else []
            _own((paths.lock, *ours), owners.daemon)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        _finish(state, staging)
    finally:
        os.close(descriptor)
    return verified


def _be_empty(state: Path) -> None:
    there = sorted({one.name for one in state.iterdir()} - NOT_OURS - _moved(state))
    if there:
        left = (state / RESTORING).exists()
        instead = (
            f"remove {state / RESTORING} to do without the restore"
            if left
            else ("give another --state-dir")
        )
        raise ExitError(
            Exit.FAILED,
            f"cannot restore into {state}: it is not empty ({', '.join(there[:5])}); move what is"
            f" there away, or {instead}",
        )


def _moved(state: Path) -> set[str]:
    """Names in the state directory that a restore which was broken off has moved there."""
    whole = state / MOVING
    if not whole.is_dir():
        return set()
    return {name for name in MOVED if not (whole / name).exists()}


def _begin(state: Path) -> Path:
    """Make an empty `restoring/`; what a broken-off restore has moved out of it goes."""
    staging, whole = state / RESTORING, state / MOVING
    if whole.is_dir():
        for name in _moved(state):
            if (state / name).exists():
                shutil.rmtree(state / name)
        sync_directory(state)
        whole.rename(staging)
    if staging.is_dir():
        shutil.rmtree(staging)
    staging.mkdir(mode=0o700)
    sync_directory(state)
    for name in ("log", "followers", "doors", "keys", "packed"):
        (staging / name).mkdir(mode=0o700)
    return staging


def _unpack(place: Path, staging: Path, options: Options, tell: Tell) -> Verified:
    def into(name: str) -> Path | None:
        folder, _, file = name.partition("/")
        if folder == "config":
            return None
        return staging / ("packed" if folder == "postgres" else folder) / file

    opened = read(place, into, tell)
    if opened.faults:
        raise DamagedError(opened.faults)
    manifest = opened.manifest
    _place_key(manifest, staging, options)
    verified = log_checked(manifest, [], staging, None)
    if verified.faults and not options.accept_damage:
        raise DamagedError(verified.faults)
    if manifest.postgres.method != "none":
        faults = cluster.unpack(manifest.postgres.version, staging / "packed", staging / "postgres")
        if faults:
            raise DamagedError(faults)
    shutil.rmtree(staging / "packed")
    return verified


def _place_key(manifest: Manifest, staging: Path, options: Options) -> None:
    if manifest.key_included or manifest.log is None or options.without_key:
        return
    if options.key is None:
        raise ExitError(
            Exit.FAILED,
            "cannot restore without the log's key, which is not in the backup: give --key FILE"
            " (keys/log.key of the old state directory); or --without-key: then no root can be"
            " computed again, and ids from before the backup are not recognised as duplicates",
        )
    key = options.key.read_bytes()
    wanted = manifest.key_sha256
    if len(key) != KEY_BYTES or (wanted and hashlib.sha256(key).hexdigest() != wanted):
        raise ExitError(
            Exit.FAILED, f"cannot use {options.key}: it is not the key of this log; give that one"
        )
    with open_new(staging / "keys" / "log.key") as file:
        file.write(key)


def _owners(manifest: Manifest, options: Options) -> Owners:
    if os.geteuid() != 0:
        return Owners(None, None)
    daemon = _user(options.owner or manifest.owner)
    if manifest.postgres.method == "none":
        return Owners(daemon, None)
    # A daemon that is not root runs the server as itself.
    return Owners(daemon, _user(manifest.postgres.owner) if daemon.pw_uid == 0 else daemon)


def _user(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise ExitError(
            Exit.FAILED,
            f"cannot give the files to {name}: there is no such user here; make it"
            " (systemd-sysusers), or give --owner",
        ) from None


def _give(staging: Path, owners: Owners) -> None:
    """Set owners, and have every file and name of it durable."""
    for name in MOVED:
        owner = owners.postgres if name == "postgres" else owners.daemon
        for path in _tree(staging / name):
            _own([path], owner)
            if not path.is_symlink():
                _sync(path)
    sync_directory(staging)


def _own(paths: Iterable[Path], owner: pwd.struct_passwd | None) -> None:
    for path in paths:
        if owner is not None:
            os.chown(path, owner.pw_uid, owner.pw_gid, follow_symlinks=False)


def _tree(folder: Path) -> Iterator[Path]:
    """Everything in a folder and it itself, names after what they name."""
    for place, folders, files in os.walk(folder, topdown=False):
        yield from (Path(place, name) for name in files)
        yield from (Path(place, name) for name in folders if Path(place, name).is_symlink())
        yield Path(place)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _finish(state: Path, staging: Path) -> None:
    whole = staging.rename(state / MOVING)
    sync_directory(state)
    for name in MOVED:
        with contextlib.suppress(FileNotFoundError):
            (whole / name).rename(state / name)
    sync_directory(state)
    whole.rmdir()
    sync_directory(state)
