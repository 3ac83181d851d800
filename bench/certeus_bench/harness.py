"""A certeusd of one's own, for `make run` and the benchmarks: start it, ask it, stop it.

Everything is asked through the control API, as an operator would; only rows are counted by SQL.
"""

import contextlib
import hashlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import msgspec
import psutil

from certeusd.control.client import ControlClient
from certeusd.exits import ExitError

ROOT = Path(__file__).resolve().parents[2]
SOCKET_PATH_BYTES_MAX = 107
LONGEST_SOCKET = Path("state", "postgres", ".s.PGSQL.5432")
START_TIMEOUT_S = 120.0
DEATH_TOLD_S = 0.5
LINES_SHOWN = 10
BIN = Path(sys.executable).parent


class HarnessError(Exception):
    """Something outside failed; the message says what and what to do next."""


def blocked_for_postgres(directory: Path) -> Path | None:
    """The first directory on the way to ``directory`` that root's PostgreSQL cannot enter, or None.

    It runs as a user without privileges there; for other users everything runs as themselves.
    """
    if os.geteuid() != 0:
        return None
    for place in reversed([directory, *directory.parents]):
        if place.exists() and not place.stat().st_mode & 0o001:
            return place
    return None


def home_for(wanted: Path) -> tuple[Path, str | None]:
    """Where state and sockets go: ``wanted``, or one below /var/tmp where that cannot work.

    Started by root, the embedded PostgreSQL runs as a user without privileges, who must be able to
    reach its files; certeus changes no permissions of directories that it did not make. And the
    path of a socket has 107 bytes at most, in a checkout far down too.

    Returns:
        The directory, existing, and one sentence if it is not the wanted one.
    """
    if blocked := blocked_for_postgres(wanted):
        home = home_elsewhere(wanted)
        return home, f"PostgreSQL runs as a user who cannot enter {blocked}: using {home}"
    if len(os.fsencode(wanted.absolute() / LONGEST_SOCKET)) > SOCKET_PATH_BYTES_MAX:
        home = home_elsewhere(wanted)
        return home, f"{wanted} is too long for a socket's path: using {home}"
    if not wanted.exists():
        wanted.mkdir(parents=True)
        wanted.chmod(0o755)  # whatever the umask: it is ours, and PostgreSQL's user must pass
    return wanted, None


def home_elsewhere(wanted: Path, base: Path = Path("/var/tmp")) -> Path:
    """One directory for each ``wanted``, so that a second run finds what the first one made.

    Everybody may write in ``base``: a directory there that is not ours alone is never used.
    """
    name = hashlib.sha256(os.fsencode(wanted.absolute())).hexdigest()[:8]
    home = base / f"certeus-{name}"
    with contextlib.suppress(FileExistsError):
        home.mkdir()
    at = home.lstat()
    if not stat.S_ISDIR(at.st_mode) or at.st_uid != os.geteuid() or at.st_mode & 0o022:
        home = Path(tempfile.mkdtemp(prefix="certeus-", dir=base))
    home.chmod(0o755)  # whatever the umask: PostgreSQL's user must pass
    return home


class Status(msgspec.Struct):
    """What of ``certeus status --json`` is used here."""

    state: str
    durable_seq: int = 0
    flushed_seq: int = 0
    lag_events: int = 0


class Daemon:
    """One certeusd process with its directories; `started` makes it and ends it."""

    def __init__(
        self,
        home: Path,
        environment: dict[str, str] | None = None,
        config: Path | None = None,
    ) -> None:
        self.state_dir = home / "state"
        self.runtime_dir = home / "run"
        self.log_path = home / "certeusd.log"
        self.short_runtime_dir = False
        if len(os.fsencode(self.runtime_dir / "control.sock")) > SOCKET_PATH_BYTES_MAX:
            self.runtime_dir = Path(tempfile.mkdtemp(prefix="certeus-run-"))
            self.short_runtime_dir = True
        self._control = ControlClient(self.runtime_dir / "control.sock")
        self._config = [] if config is None else ["--config", str(config)]
        self._environment = os.environ | (environment or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> str:
        """Path of the ingest socket."""
        return str(self.runtime_dir / "ingest.sock")

    @property
    def api(self) -> str:
        """Path of the socket that speaks HTTP."""
        return str(self.runtime_dir / "api.sock")

    @property
    def pid(self) -> int:
        """Process id of the supervisor."""
        assert self._process is not None
        return self._process.pid

    def start(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Start it and wait until it says, through its control API, that it takes events."""
        self.state_dir.parent.mkdir(parents=True, exist_ok=True)
        command = [
            str(BIN / "certeusd"), "--state-dir", str(self.state_dir),
            "--runtime-dir", str(self.runtime_dir), *self._config,
        ]  # fmt: skip
        with self.log_path.open("ab") as log:
            # A session of its own: Ctrl-C is ours, and we stop it in order.
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True, env=self._environment,
            )  # fmt: skip
        deadline = time.monotonic() + timeout_s
        while not self._is_ready():
            if (code := self._process.poll()) is not None:
                self._fail(f"certeusd {ending(code)}")
            if time.monotonic() > deadline:
                self.stop()
                self._fail(f"certeusd is not ready after {timeout_s:.0f} s")
            time.sleep(0.02)

    def stop(self, timeout_s: float = 60.0) -> int:
        """End it as systemd would (SIGTERM) and return its exit code."""
        process = self._process
        if process is None:
            return 0
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
        code = process.wait()
        if self.short_runtime_dir:
            shutil.rmtree(self.runtime_dir, ignore_errors=True)
        return code

    def status(self) -> Status:
        """What ``certeus status --json`` says."""
        return msgspec.convert(self._get("/v1/status"), Status)

    def wait_flushed(self, timeout_s: float) -> None:
        """Wait until all that was accepted before this call is in PostgreSQL."""
        self._get("/v1/wait", timeout_s, until="flushed")

    def dsn(self) -> str:
        """URL of the database, once server and schema are there."""
        return msgspec.convert(self._get("/v1/dsn", START_TIMEOUT_S)["dsn"], str)

    def pss_bytes(self) -> dict[str, int]:
        """Proportional set size by kind of process, of the whole tree, PostgreSQL included."""
        sizes: dict[str, int] = {}
        supervisor = psutil.Process(self.pid)
        for process in [supervisor, *supervisor.children(recursive=True)]:
            try:
                rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
                name = kind_of(" ".join(process.cmdline()))
            except (OSError, psutil.Error):
                continue  # it has just ended
            kib = next(int(line.split()[1]) for line in rollup.splitlines() if "Pss:" in line)
            sizes[name] = sizes.get(name, 0) + kib * 1024
        return sizes

    def _is_ready(self) -> bool:
        try:
            self._control.get("/v1/health/ready")
        except (ExitError, OSError):
            return False
        return True

    def _get(self, path: str, timeout_s: float = 0.0, **query: str) -> dict[str, object]:
        if timeout_s:
            query["timeout_s"] = f"{timeout_s:.0f}"
        try:
            return self._control.get(path, wait_s=timeout_s, **query)
        except (ExitError, OSError) as error:
            assert self._process is not None
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(DEATH_TOLD_S)  # its sockets are closed before it can be reaped
            if (code := self._process.poll()) is not None:
                self._fail(f"certeusd {ending(code)}; what was durable is there at the next start")
            self._fail(f"the control API does not answer {path}: {error}")

    def _fail(self, message: str) -> NoReturn:
        lines = self.log_path.read_text(errors="replace").splitlines()[-LINES_SHOWN:]
        told = [f"  {readable(line)}" for line in lines]
        raise HarnessError("\n".join([message.strip(), f"last lines of {self.log_path}:", *told]))


def ending(code: int) -> str:
    """How a process ended, by what `Popen` says."""
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with {code}"


def readable(line: str) -> str:
    """One line of the daemon's JSON log for a human; any other line as it is."""
    try:
        fields: dict[str, object] = msgspec.json.decode(line, type=dict[str, object])
    except msgspec.DecodeError:
        return line
    head = [str(fields.pop(name, "")) for name in ("timestamp", "level", "role", "event")]
    return " ".join([*head, *(f"{name}={value}" for name, value in fields.items())])


def kind_of(command_line: str) -> str:
    """Which part of certeus a command line belongs to."""
    for kind in ("worker", "log", "flush", "api"):
        if f"certeusd.{kind}" in command_line:
            return kind
    return "postgres" if "postgres" in command_line else "supervisor"


@contextmanager
def started(
    home: Path, environment: dict[str, str] | None = None, config: Path | None = None
) -> Generator[Daemon, None, None]:
    """A daemon in ``home`` for the length of a block; SIGTERM and SIGHUP end the block too."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)
    daemon = Daemon(home, environment, config)
    try:
        daemon.start()
        yield daemon
    finally:
        daemon.stop()


def _leave(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def machine() -> dict[str, str | int]:
    """What the figures depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": models[0] if models else os.uname().machine,
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "kernel": os.uname().release,
        "python": sys.version.split()[0],
    }
