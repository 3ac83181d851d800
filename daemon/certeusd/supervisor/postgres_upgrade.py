"""The embedded cluster made over for the next major version of PostgreSQL, by `pg_upgrade`.

```text
<state-dir>/postgres                       postgres.upgrade          postgres.before-upgrade-15
  old, whole ──────────────────────────────▶ new, being made
  old, whole   ◀── names exchanged at once ─▶ new, whole, synced
  new, whole                                 old, whole ─── renamed ──▶ old, whole
```

At every moment `postgres` is a whole cluster: the old one until the two names are exchanged, by one
call of the kernel, the new one from then on. Which it is says its PG_VERSION, so a try that was
killed anywhere is simply run again: what is half made is removed, a rename that is missing is made.
The daemon must be stopped; events stay in the log meanwhile.
"""

import contextlib
import ctypes
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from certeusd import systemd
from certeusd.exits import Exit, ExitError
from certeusd.paths import Paths, check_socket_path
from certeusd.supervisor import postgres_cluster as cluster
from certeusd.supervisor import postgres_files as files
from certeusd.supervisor import postgres_install as installation

DEBIAN = "/usr/lib/postgresql/{major}/bin"
PROGRAMS = (
    *installation.PROGRAMS,
    "pg_upgrade", "pg_ctl", "pg_resetwal", "pg_dump", "pg_dumpall", "pg_restore", "vacuumdb",
)  # fmt: skip
"""What both installations need, where they have it."""
PORT = 50432
"""pg_upgrade's own; it names a socket in the work directory, nothing else."""
ROOM_BYTES = 256 << 20
"""Beside the copy itself: a new cluster, dumps of the schema."""
CHECKSUMS_ARE_DEFAULT = 18
"""From this major version on initdb makes checksums unless it is told not to."""
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


class Outcome(NamedTuple):
    """What an upgrade came to."""

    upgraded: bool
    old: str | None
    """Major version of the cluster that was there; None: there is no cluster."""
    new: str
    """Version of the binaries of this certeus."""
    kept: Path | None
    """Where the old cluster is now."""


class Upgrade:
    """One try, by whoever holds the state directory's lock. `tell` gets a line for each step."""

    def __init__(self, paths: Paths, link: bool, tell: Callable[[str], None]) -> None:
        self.home = paths.postgres
        self.work = paths.postgres.with_name("postgres.upgrade")
        self.new_install = installation.wheel_install()
        self.new = installation.server_version(self.new_install)
        self.user = installation.server_user("", self.home / "data")
        places = (self.work, self.work / "data", self.home / "data")
        self._folders = [place.resolve() for place in places]
        self._link = link
        self._tell = tell

    @property
    def old(self) -> str | None:
        """Major version of the cluster in `postgres`."""
        return cluster.major_of(self.home / "data")

    @property
    def is_needed(self) -> bool:
        """Whether the cluster is of another major version than the binaries."""
        return self.old not in (None, major(self.new))

    @property
    def is_unfinished(self) -> bool:
        """Whether an earlier try was ended in the middle."""
        return self.work.exists()

    def kept(self) -> list[Path]:
        """Clusters that earlier upgrades have left."""
        return sorted(self.home.parent.glob("postgres.before-upgrade-*"))

    def run(self, old_bindir: str | None) -> Outcome:
        """Upgrade the cluster, if that is needed; finish what an earlier try has begun.

        Raises:
            ExitError: what keeps it; the old cluster is whole and in its place.
        """
        found = self.old
        if not self.is_needed:
            return Outcome(False, found, self.new, self._finish())
        assert found is not None, "a cluster that is to be upgraded is there"
        if cluster.is_newer(found, major(self.new)):
            raise ExitError(
                Exit.CONFIGURATION,
                f"cannot open {self.home}: made by PostgreSQL {found}, this certeus brings"
                f" {self.new}; install the certeus that made it, or a later one",
            )
        old_bin = find_binaries(found, old_bindir, self.new_install)
        self._tell(f"1/6 from PostgreSQL {found} ({old_bin}) to {self.new}")
        old_install, new_install = self._prepare(old_bin)
        self._tell("2/6 the old cluster: was it shut down?")
        self._settle_old(old_install)
        self._tell("3/6 a new cluster is made")
        self._make_new(old_install, new_install)
        self._tell("4/6 pg_upgrade looks whether it can be done (--check)")
        self._pg_upgrade(old_install, new_install, "--check")
        self._tell(f"5/6 pg_upgrade {'links' if self._link else 'copies'}")
        try:
            self._pg_upgrade(old_install, new_install, "--link" if self._link else "--copy")
            self._tell("6/6 the new cluster takes its place")
            self._take_place(old_install, new_install)
        except BaseException:
            self._put_control_back()
            raise
        return Outcome(True, found, self.new, self._finish())

    # --- steps -------------------------------------------------------------------------------

    def _finish(self) -> Path | None:
        """Give the old cluster its name, if the names were exchanged; where it is."""
        old = cluster.major_of(self.work / "data")
        if old is None or old == self.old:
            shutil.rmtree(self.work, ignore_errors=True)
            return None
        kept = self.home.with_name(f"postgres.before-upgrade-{old}")
        if kept.exists():
            # Of an upgrade whose cluster was put back by hand, and is upgraded again.
            number = sum(one.name.startswith(kept.name) for one in self.kept())
            kept = kept.with_name(f"{kept.name}.{number}")
        self.work.rename(kept)
        sync_directory(self.home.parent)
        return kept

    def _prepare(self, old_bin: Path) -> tuple[Path, Path]:
        """Make the work directory; installations that the server's user can execute."""
        stop_survivors(*self._folders)
        if self.is_unfinished:
            self._put_control_back()
        elif self._put_aside():
            raise ExitError(
                Exit.FAILED,
                f"cannot upgrade {self.home}: by --link it shares its files with a new cluster;"
                " if that was never started, rename data/global/pg_control.old to pg_control, else"
                " restore a backup",
            )
        shutil.rmtree(self.work, ignore_errors=True)
        check_socket_path(self.work / f".s.PGSQL.{PORT}")
        self._check_room()
        self.work.mkdir(mode=0o711)
        cluster.write_access_files(self.work, self.user)
        try_exchange(self.work, self.home)
        found = [
            installation.usable_install(one, self.user, self.work, PROGRAMS)[0]
            for one in (old_bin.parent, self.new_install)
        ]
        # Its user may write here only when all that we write here is written.
        files.hand_over(self.work, self.user)
        return found[0], found[1]

    def _check_room(self) -> None:
        size = 0 if self._link else bytes_of(self.home / "data")
        wanted, free = size + ROOM_BYTES, shutil.disk_usage(self.home).free
        if free < wanted:
            raise ExitError(
                Exit.FAILED,
                f"cannot copy {self.home / 'data'}: {wanted >> 20} MiB are needed, {free >> 20} MiB"
                " are free; make room, or use --link",
            )

    def _settle_old(self, install: Path) -> None:
        """Have the old cluster as a clean shutdown leaves it."""
        data = self.home / "data"
        told = self._program([install / "bin" / "pg_controldata", "-D", data])
        if not re.search(r"^Database cluster state: +shut down$", told, re.MULTILINE):
            self._tell("    it was not shut down: it recovers first")
            self._program([install / "bin" / "postgres", "--single", "-D", data, "postgres"])

    def _put_control_back(self) -> None:
        """Have the old cluster as it was before `pg_upgrade --link`.

        That puts its control file aside before it links files. Until the names are exchanged the
        new cluster is never started, so the old one is whole.
        """
        with files.acting_as(self.user):
            if aside := self._put_aside():
                aside.rename(aside.with_suffix(""))
                sync_directory(aside.parent)

    def _put_aside(self) -> Path | None:
        """Return the old cluster's control file, if it has the name that --link gives it."""
        aside = self.home / "data" / "global" / "pg_control.old"
        return aside if aside.exists() and not aside.with_suffix("").exists() else None

    def _make_new(self, old_install: Path, install: Path) -> None:
        told = self._program([old_install / "bin" / "pg_controldata", "-D", self.home / "data"])
        checksums = not re.search(r"^Data page checksum version: +0$", told, re.MULTILINE)
        command = cluster.initdb_command(install, self.work / "data")
        if checksums:
            command.append("--data-checksums")
        elif int(major(self.new)) >= CHECKSUMS_ARE_DEFAULT:
            command.append("--no-data-checksums")
        self._program(command)

    def _pg_upgrade(self, old_install: Path, new_install: Path, mode: str) -> None:
        files = {name: self.work / f"pg_{name}.conf" for name in ("hba", "ident")}
        access = " ".join(f"-c {name}_file={shlex.quote(str(at))}" for name, at in files.items())
        # fmt: off
        command: list[str | Path] = [
            new_install / "bin" / "pg_upgrade", mode, "-U", "postgres", "-s", self.work,
            "-p", str(PORT), "-P", str(PORT), "-o", access, "-O", access,
            "-b", old_install / "bin", "-B", new_install / "bin",
            "-d", self.home / "data", "-D", self.work / "data",
        ]
        # fmt: on
        try:
            self._program(command)
        finally:
            stop_survivors(*self._folders)

    def _take_place(self, old_install: Path, new_install: Path) -> None:
        self.carry_settings(new_install)
        # After the exchange its paths would be those of the new cluster.
        (self.work / "delete_old_cluster.sh").unlink(missing_ok=True)
        if old_install.is_relative_to(self.work):
            shutil.rmtree(self.work / f"binaries-{installation.server_version(old_install)}")
        os.sync()
        exchange(self.work, self.home)

    def carry_settings(self, install: Path) -> None:
        """Give the new cluster the settings of the old one, but for those that it does not know."""
        data = self.work / "data"
        conf = data / "postgresql.conf"
        with files.acting_as(self.user):
            lines = settings_of(self.home / "data")
            made = conf.read_text()
        while True:
            header = f"\n# Carried over from the cluster of PostgreSQL {self.old}.\n"
            with files.acting_as(self.user):
                conf.write_text(made + header + "".join(f"{line}\n" for line in lines))
            try:
                self._program([install / "bin" / "postgres", "-C", "port", "-D", data])
            except ExitError as error:
                unknown = set(re.findall(r'parameter "([^"]+)"', str(error)))
                kept = [line for line in lines if name_of(line) not in unknown]
                if not lines:
                    raise
                if len(kept) == len(lines):
                    kept = []  # It names none: a file that was included, for one.
                for line in lines:
                    if line not in kept:
                        self._tell(
                            f"    not carried over, PostgreSQL {self.new} refuses it: {line}"
                        )
                lines = kept
            else:
                return

    def _program(self, command: Sequence[str | Path]) -> str:
        """Run a program as the server's user, in the work directory; what it says.

        Raises:
            ExitError: it failed, with the end of what it said.
        """
        user = self.user
        groups = ",".join(str(gid) for gid in user.groups)
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "certeusd.supervisor.postgres_exec", str(os.getpid()),
             str(user.uid), str(user.gid), groups, str(self.work), "--", *map(str, command)],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True, env=systemd.child_environment(),
        )  # fmt: skip
        try:
            told = process.communicate()[0].decode(errors="replace")
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        if process.returncode != 0:
            last = "\n".join(told.strip().splitlines()[-15:])
            raise ExitError(
                Exit.FAILED,
                f"cannot upgrade {self.home}: {Path(command[0]).name} failed"
                f" ({process.returncode}); the old cluster is whole and in its place, correct this"
                f" and run it again:\n{last}",
            )
        return told


def major(version: str) -> str:
    """Return `18` of `18.4`."""
    return version.split(".")[0]


def find_binaries(wanted: str, given: str | None, wheel: Path) -> Path:
    """Return the directory with the programs of a major version.

    Raises:
        ExitError: 78, there is none; with where was looked.
    """
    debian = Path(DEBIAN.format(major=wanted))
    places = [Path(given).absolute()] if given else [debian]
    if not given:
        # A wheel has more than one major version, now and then.
        places += sorted(wheel.parent.glob("pginstall*/bin"))
    for place in places:
        if (place / "pg_ctl").is_file() and (place / "postgres").is_file():
            with contextlib.suppress(OSError, subprocess.CalledProcessError):
                if major(installation.server_version(place.parent)) == wanted:
                    return place
    looked = ", ".join(str(place) for place in places)
    raise ExitError(
        Exit.CONFIGURATION,
        f"cannot find the programs of PostgreSQL {wanted}, with which the old cluster was made"
        f" (looked in {looked}); install them (apt install postgresql-{wanted}) or name their"
        " directory by --old-bindir",
    )


def settings_of(data: Path) -> list[str]:
    """Return what the two files of settings of a cluster say, in order."""
    lines = list[str]()
    for name in ("postgresql.conf", "postgresql.auto.conf"):
        with contextlib.suppress(FileNotFoundError):
            text = (data / name).read_text(errors="replace")
            lines += [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def name_of(line: str) -> str:
    """Return the parameter that a line sets."""
    return re.split(r"[\s=]", line, maxsplit=1)[0]


def bytes_of(folder: Path) -> int:
    """Return what the files of a directory take on disk."""
    total = 0
    for directory, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(directory, name)).st_blocks * 512
    return total


def stop_survivors(*folders: Path) -> None:
    """End the programs of PostgreSQL that work in these directories: a killed try has left them.

    A postmaster takes its backends along; a cluster that is stopped so recovers at its next start.
    """
    while found := [one for one in psutil.process_iter() if _is_at_work(one, folders)]:
        for number, timeout_s in ((signal.SIGQUIT, 10.0), (signal.SIGKILL, 5.0)):
            for one in found:
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.send_signal(number)
            _, found = psutil.wait_procs(found, timeout_s)


def _is_at_work(process: psutil.Process, folders: Sequence[Path]) -> bool:
    try:
        return process.name() in PROGRAMS and Path(process.cwd()) in folders
    except psutil.Error:
        return False


def exchange(one: Path, other: Path) -> None:
    """Exchange two names of one file system, at once and durably (renameat2, RENAME_EXCHANGE)."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    if libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    sync_directory(one.parent)


def try_exchange(folder: Path, home: Path) -> None:
    """See, before anything is made, whether names can be exchanged; ExitError if not."""
    if any(Path(one.mountpoint) == home.resolve() for one in psutil.disk_partitions(all=True)):
        raise ExitError(
            Exit.FAILED,
            f"cannot upgrade {home}: a file system is mounted there, so its name cannot be"
            f" exchanged; mount it on {home.parent} instead",
        )
    names = folder / "one", folder / "other"
    for name in names:
        name.mkdir()
    try:
        exchange(*names)
    except OSError as error:
        raise ExitError(
            Exit.FAILED,
            f"cannot upgrade in {folder.parent}: its file system does not exchange two names at"
            f" once ({error.strerror}); dump the database there and load it into a new state"
            " directory",
        ) from error
    finally:
        for name in names:
            name.rmdir()


def sync_directory(folder: Path) -> None:
    """Have the names in a directory durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
