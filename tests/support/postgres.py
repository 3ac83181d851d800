"""Throw-away PostgreSQL servers: a socket, a directory, and nothing left behind.

PostgreSQL does not run as root: then everything is done as `nobody`, in a directory of its own
directly under the temporary directory, which that user can enter.
"""

import atexit
import contextlib
import functools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

import psutil

from certeusd.exits import ExitError
from certeusd.pdeathsig import set_parent_death_signal
from certeusd.supervisor.postgres_install import (
    User,
    blocked_directory,
    usable_install,
    wheel_install,
)

DEBIAN_BINARIES = Path("/usr/lib/postgresql/15/bin")
START_TIMEOUT_S = 30.0


def wheel_binaries() -> Path | None:
    """The very binaries of the wheel that certeusd's embedded server uses (it has older ones)."""
    try:
        return wheel_install() / "bin"
    except ExitError:
        return None


STANDBY_PROGRAMS = ("pg_basebackup", "pg_ctl")
"""What certeus itself has no use for, and its copy leaves out."""


@functools.cache
def reachable(binaries: Path, user: User) -> Path:
    """The same programs where ``user`` can execute them: there, or in a copy that goes at exit.

    A checkout in a closed directory, such as one under /root, is out of an ordinary user's reach.
    """
    if blocked_directory(binaries, user.uid, user.groups) is None:
        return binaries
    folder = Path(tempfile.mkdtemp(prefix="certeus-pg-binaries-", dir="/tmp"))
    folder.chmod(0o755)
    atexit.register(shutil.rmtree, folder)
    install, _ = usable_install(binaries.parent, user, folder)
    for program in STANDBY_PROGRAMS:
        shutil.copy2(binaries / program, install / "bin")
    return install / "bin"


def installations() -> dict[str, Path]:
    """Directories with `initdb` and `postgres`, by a short name."""
    found: dict[str, Path] = {}
    if (DEBIAN_BINARIES / "postgres").exists():
        found["postgres15"] = DEBIAN_BINARIES
    wheel = wheel_binaries()
    if wheel is not None:
        found["postgres18"] = wheel
    return found


def _die_with_parent() -> None:
    set_parent_death_signal(signal.SIGKILL)


class Server:
    """One server; `start` (in the main thread) and `kill` as often as a test likes."""

    def __init__(self, binaries: Path) -> None:
        self._user = pwd.getpwnam("nobody") if os.getuid() == 0 else None
        if self._user is not None:
            name, _, uid, gid, *_ = self._user
            binaries = reachable(binaries, User(name, uid, gid, (gid,)))
        self.binaries = binaries
        self.folder = Path(tempfile.mkdtemp(prefix="certeus-pg-", dir="/tmp"))
        self.folder.chmod(0o755)
        if self._user is not None:
            os.chown(self.folder, self._user.pw_uid, self._user.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None
        try:
            options = ["--auth=trust", "--username=postgres", "--no-sync"]
            self._run("initdb", *options, "--encoding=UTF8", "--locale=C", "-D", str(self.data))
        except BaseException:
            shutil.rmtree(self.folder)
            raise

    @property
    def pid(self) -> int:
        """Of the postmaster."""
        assert self._process is not None
        return self._process.pid

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def dsn(self, database: str = "postgres", user: str = "postgres") -> str:
        return f"postgresql://{user}@/{database}?host={self.folder}"

    def socket_path(self) -> str:
        return str(self.folder / ".s.PGSQL.5432")

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [self.binaries / program, *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self.folder,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            user=self._user.pw_uid if self._user else None,
            group=self._user.pw_gid if self._user else None,
            extra_groups=[] if self._user else None,
        )

    def start(self, **settings: str) -> None:
        """Start the server, and return when it takes connections."""
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.folder),
            "shared_buffers": "64MB",
            "max_connections": "50",
            "autovacuum": "off",
            # In its own directory, so that a server which is killed leaves nothing in /dev/shm.
            "dynamic_shared_memory_type": "mmap",
            **settings,
        }
        arguments = [f"--{name}={value}" for name, value in options.items()]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.binaries / "postgres", "-D", self.data, *arguments],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
                start_new_session=True,
                # Called after the change of user, which would undo it: no server outlives its test.
                preexec_fn=_die_with_parent,
                user=self._user.pw_uid if self._user else None,
                group=self._user.pw_gid if self._user else None,
                extra_groups=[] if self._user else None,
            )
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        pid_file = self.data / "postmaster.pid"
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError((self.folder / "log").read_text())
            with contextlib.suppress(FileNotFoundError):
                lines = pid_file.read_text().splitlines()
                if len(lines) >= 8 and lines[7].strip() in ("ready", "standby"):
                    return
            time.sleep(0.01)  # the server offers nothing to wait on
        raise RuntimeError("the server did not become ready")

    def kill(self) -> None:
        """SIGKILL to the postmaster first, then to every process that it had started."""
        assert self._process is not None
        children = psutil.Process(self._process.pid).children(recursive=True)
        self._process.kill()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        self._process.wait()
        psutil.wait_procs(children)
        self._process = None
        for leftover in self.folder.glob(".s.PGSQL.5432*"):
            leftover.unlink()

    def stop(self, how: signal.Signals = signal.SIGQUIT) -> None:
        """Stop the server, at once unless told otherwise, cleanly enough to start it again."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None

    def copy_data(self, to: Path) -> None:
        """Copy the directory of the stopped server, with owners and all."""
        assert self._process is None, "a running server's files are no state of it"
        subprocess.run(["cp", "-a", self.data, to], check=True)

    def put_back(self, copy: Path) -> None:
        """The stopped server's directory becomes what it was when the copy was made."""
        assert self._process is None
        shutil.rmtree(self.data)
        subprocess.run(["cp", "-a", copy, self.data], check=True)

    def follow(self, primary: "Server") -> None:
        """Become, before the first start, a streaming standby of a running server."""
        shutil.rmtree(self.data)
        source = ["-h", str(primary.folder), "-U", "postgres", "--checkpoint=fast"]
        self._run("pg_basebackup", *source, "-D", str(self.data), "-R", "-X", "stream", "--no-sync")

    def promote(self) -> None:
        """A standby becomes a primary; returns when it takes writes."""
        self._run("pg_ctl", "promote", "-D", str(self.data), "-w")

    def remove(self) -> None:
        """Stop, and leave nothing."""
        self.stop()
        shutil.rmtree(self.folder)


@contextlib.contextmanager
def server(binaries: Path, **settings: str) -> Generator[Server]:
    """A running server for the length of a block."""
    made = Server(binaries)
    try:
        made.start(**settings)
        yield made
    finally:
        made.remove()
