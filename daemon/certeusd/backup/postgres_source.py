"""The embedded PostgreSQL as a backup copies it: by `pg_basebackup` where it runs, else its files.

`pg_basebackup` asks the server as superuser, which root and the server's own user are. Without a
server, the state directory is locked, so that none is started while its files are read: what a
server that was killed left behind is as good a copy, it recovers from it as from the kill.
"""

import os
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import psutil

from certeusd.backup.manifest import PostgresPart
from certeusd.backup.target import Target
from certeusd.exits import Exit, ExitError
from certeusd.paths import Paths
from certeusd.pdeathsig import set_parent_death_signal
from certeusd.supervisor import postgres_cluster, postgres_install

BACKUP_FILES = ("base.tar", "pg_wal.tar", "backup_manifest")
LEFT_OUT = frozenset({"postmaster.pid", "postmaster.opts"})
_POLL_S = 0.1
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}


def program(name: str) -> Path:
    """Return one of PostgreSQL's programs, from the installation of the embedded server."""
    path = postgres_install.wheel_install() / "bin" / name
    if not path.is_file():
        raise ExitError(Exit.FAILED, f"cannot run {path}: it is not installed")
    return path


def has_cluster(paths: Paths) -> bool:
    """Whether there is an embedded database; 77 if we may not look."""
    try:
        return (paths.postgres / "data" / "PG_VERSION").exists()
    except PermissionError as error:
        raise ExitError(
            Exit.NOT_ALLOWED,
            f"cannot read {paths.postgres / 'data'}: not allowed; become root or the server's user",
        ) from error


def data_bytes(paths: Paths) -> int:
    """Bytes of the cluster's files."""
    return sum(length for _, length in _files(paths.postgres / "data"))


def part(
    paths: Paths,
    mode: Literal["embedded", "external", "none"],
    method: Literal["pg_basebackup", "files", "none"],
) -> PostgresPart:
    """Describe the copy, or that there is none."""
    data = paths.postgres / "data"
    if mode != "embedded":
        return PostgresPart(mode, "none", "", "")
    if not data.exists():
        return PostgresPart(mode, method, "", "")
    return PostgresPart(mode, method, (data / "PG_VERSION").read_text().strip(), owner_of(data))


def owner_of(path: Path) -> str:
    """Name of the user that owns a file; its number if it has no name."""
    try:
        return path.owner()
    except KeyError:
        return str(path.stat().st_uid)


def copy_running(paths: Paths, target: Target) -> None:
    """Copy what the running server has, consistent in itself, into `postgres/`.

    Raises:
        ExitError: 1 with what pg_basebackup says.
    """
    folder = target.staging / "postgres"
    command: list[str | Path] = [
        program("pg_basebackup"), "--pgdata", folder, "--format=tar", "--wal-method=stream",
        "--checkpoint=fast", "--label=certeus backup", "--manifest-checksums=SHA256", "--no-sync",
        "--no-password", "--username=postgres", "--host", paths.postgres,
        "--port", str(postgres_cluster.PORT),
    ]  # fmt: skip
    said = target.staging / "pg_basebackup.said"
    parent = os.getpid()

    def die_with_parent() -> None:
        set_parent_death_signal(signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    with said.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=_ENVIRONMENT,
            preexec_fn=die_with_parent,
        )  # fmt: skip
        try:
            seen = 0
            while process.poll() is None:
                seen, before = _bytes_in(folder), seen
                target.tell("postgres", seen - before)
                time.sleep(_POLL_S)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if process.returncode != 0:
        lines = said.read_text(errors="replace").strip().splitlines() or ["it said nothing"]
        hint = "look at `certeus status`, or copy the log alone with --without-postgres"
        if "no pg_hba.conf entry" in lines[-1]:
            hint = "this server was started by an older certeusd: restart that once"
        raise ExitError(Exit.FAILED, f"cannot copy the embedded PostgreSQL: {lines[-1]}; {hint}")
    _refuse_tablespaces(folder)
    for name in BACKUP_FILES:
        target.add_staged(f"postgres/{name}", folder / name)


def copy_stopped(paths: Paths, target: Target) -> None:
    """Copy the files of a server that does not run; the caller holds the state directory's lock.

    Raises:
        ExitError: 75, a server runs on them all the same; 1, some of them are elsewhere.
        OSError: some cannot be read.
    """
    data = paths.postgres / "data"
    _refuse_running(data)
    every = sorted(_everything(data))
    _refuse_links(data, every)
    packed = target.staging / "base.tar"
    with tarfile.open(packed, "w", format=tarfile.GNU_FORMAT) as tar:
        for path in every:
            if path.name not in LEFT_OUT or path.parent != data:
                tar.add(path, str(path.relative_to(data)), recursive=False)
    target.add_staged("postgres/base.tar", packed)


def _refuse_tablespaces(folder: Path) -> None:
    others = sorted({one.name for one in folder.iterdir()} - {*BACKUP_FILES})
    if others:
        raise ExitError(
            Exit.FAILED,
            f"cannot copy the embedded PostgreSQL: it has tablespaces ({', '.join(others)}); move"
            " their tables to pg_default",
        )


def _everything(folder: Path) -> Iterator[Path]:
    """All below a folder; what cannot be listed is an error: a copy without it would be none."""

    def fail(error: OSError) -> None:
        raise error

    for place, folders, files in os.walk(folder, onerror=fail):
        yield from (Path(place, name) for name in (*folders, *files))


def _refuse_links(data: Path, every: list[Path]) -> None:
    """What is behind a link (tablespaces, a pg_wal on another disk) would not be in the copy."""
    links = [str(path.relative_to(data)) for path in every if path.is_symlink()]
    if links:
        raise ExitError(
            Exit.FAILED,
            f"cannot copy {data}: {', '.join(links[:5])} is a link to elsewhere; start certeusd and"
            " back up while it runs (tablespaces: move their tables to pg_default), or move the"
            " files back",
        )


def _refuse_running(data: Path) -> None:
    pid = 0
    try:
        pid = int((data / "postmaster.pid").read_text().split()[0])
        process = psutil.Process(pid)
        alive = process.name() == "postgres" and process.status() != psutil.STATUS_ZOMBIE
        serves = alive and Path(process.cwd()) == data.resolve()
    except (FileNotFoundError, ValueError, IndexError, psutil.NoSuchProcess):
        return
    except psutil.AccessDenied:
        serves = True
    if serves:
        raise ExitError(
            Exit.TRY_AGAIN,
            f"cannot copy {data}: in use by pid {pid}; start certeusd, which takes that server"
            " over, or stop it",
        )


def _files(folder: Path) -> Iterator[tuple[Path, int]]:
    for path, _, names in os.walk(folder):
        for name in names:
            file = Path(path, name)
            try:
                yield file, file.lstat().st_size
            except FileNotFoundError:
                continue


def _bytes_in(folder: Path) -> int:
    return sum(length for _, length in _files(folder))
