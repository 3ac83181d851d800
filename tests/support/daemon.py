"""A real certeusd in directories of its own, and the means to harm it."""

import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from certeusd.doors import DOORS
from support.waiting import wait_until

ROLES = ("worker", "log", "flush")


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("certeus", timeout=10)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(10)
        self.sock.connect(str(self.path))


class Daemon:
    """One certeusd: started, asked, killed and started again on the same state."""

    def __init__(
        self,
        root: Path,
        config: str = "",
        env: Mapping[str, str] | None = None,
        doors: Collection[str] = (),
    ) -> None:
        self.root = root
        self.state_dir = root / "state"
        self.runtime_dir = root / "run"
        self.log_path = root / "certeusd.log"
        self.config_path = root / "certeus.toml"
        self.config_path.write_text(config)
        # Every process costs its start: the doors are there for those who test them.
        opened = {f"CERTEUS_{door.upper()}__ENABLED": str(door in doors).lower() for door in DOORS}
        self.env = {**os.environ, **opened, **(env or {})}
        self.process: subprocess.Popen[bytes] | None = None
        self._killed = set[int]()

    # --- life ---------------------------------------------------------------------------------

    def start(self, *, ready: bool = True, timeout: float = 60.0) -> "Daemon":
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self.env
            )
        if ready:
            wait_until("daemon that takes events", self.takes_events, timeout)
        return self

    def command(self) -> list[str]:
        return [
            sys.executable, "-m", "certeusd", "--config", str(self.config_path),
            "--state-dir", str(self.state_dir), "--runtime-dir", str(self.runtime_dir),
        ]  # fmt: skip

    def takes_events(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"certeusd ended:\n{self.log_tail()}"
        try:
            return self.status()["state"] in ("ready", "degraded")
        except (OSError, http.client.HTTPException):
            return False

    def stop(self, timeout: float = 60.0) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def clean_up(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill("all")
        if self.process is not None:
            self.process.wait(30)

    # --- questions ----------------------------------------------------------------------------

    def get(self, path: str, method: str = "GET") -> Any:  # noqa: ANN401 - JSON of any shape
        return json.loads(self.text(path, method))

    def text(self, path: str, method: str = "GET") -> str:
        connection = _Connection(self.runtime_dir / "control.sock")
        try:
            connection.request(method, path)
            response = connection.getresponse()
            body = response.read()
            assert response.status == 200, f"{path}: {response.status} {body!r}"
            return str(body, "utf-8")
        finally:
            connection.close()

    def answers(self) -> bool:
        """Whether it says how it is."""
        try:
            self.status()
        except (OSError, http.client.HTTPException):
            return False
        return True

    def status(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.get("/v1/status")
        return answer

    def dsn(self) -> str:
        return str(json.loads(self.certeus("dsn", "--json").stdout)["dsn"])

    @property
    def ingest(self) -> str:
        return str(self.runtime_dir / "ingest.sock")

    def certeus(
        self, *arguments: str, stdin: bytes | None = None, code: int | None = 0
    ) -> subprocess.CompletedProcess[bytes]:
        """Run the command; ``code`` is the exit code that must come (None: any)."""
        done = subprocess.run(
            [sys.executable, "-m", "certeusd.cli", "--runtime-dir", str(self.runtime_dir),
             "--state-dir", str(self.state_dir), *arguments],
            input=stdin, capture_output=True, env=self.env, timeout=120, check=False,
        )  # fmt: skip
        assert code is None or done.returncode == code, (
            f"certeus {' '.join(arguments)}: exit {done.returncode}\n{done.stderr.decode()}"
        )
        return done

    def log_tail(self, lines: int = 40) -> str:
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])

    # --- harm ---------------------------------------------------------------------------------

    def pids(self, role: str) -> list[int]:
        """Process numbers of a role, in the order of their index (``worker``, ``postgres``...)."""
        assert self.process is not None
        if role == "supervisor":
            return [self.process.pid]
        if role == "postgres":
            pidfile = next(self.state_dir.glob("postgres/**/postmaster.pid"), None)
            return [] if pidfile is None else [int(pidfile.read_text().split("\n")[0])]
        found: list[int] = []
        for child in psutil.Process(self.process.pid).children():
            try:
                command = child.cmdline()
            except psutil.Error:
                continue
            if f"certeusd.{role}" in command:
                found.append(child.pid)
        return sorted(found)

    def worker_pids(self) -> dict[int, int]:
        """Live workers, by index."""
        return {
            row["index"]: row["pid"]
            for row in self.get("/v1/workers")["workers"]
            if row["role"] == "worker" and row["pid"]
        }

    def kill(self, target: str, signum: int = signal.SIGKILL) -> list[int]:
        """Kill a role, or ``all`` at once; the process numbers that were hit."""
        assert self.process is not None
        if target == "all":
            pids = [self.process.pid, *self.pids("postgres")]
            with_children = psutil.Process(self.process.pid).children(recursive=True)
            pids += [child.pid for child in with_children]
        elif target.startswith("worker") and target != "worker":
            pids = [self.worker_pids()[int(target.removeprefix("worker"))]]
        else:
            pids = self.pids(target)
        assert pids, f"no process of {target} to kill"
        for pid in dict.fromkeys(pids):
            try:
                os.kill(pid, signum)
            except ProcessLookupError:
                continue
        if target in ("all", "supervisor") and signum == signal.SIGKILL:
            self.process.wait(30)
        self._killed.update(pids)
        return pids

    def kill_next(self, role: str) -> None:
        """Kill a role once it runs again: who was killed is there until it had its last moment.

        Who starts the others is started again.
        """

        def runs() -> bool:
            pids = self.pids(role)
            return bool(pids) and self._killed.isdisjoint(pids)

        wait_until(f"a {role}", runs, 60.0)
        self.kill(role)
        if role == "supervisor":
            self.start()


@contextmanager
def scratch_dir(prefix: str = "certeus-test-") -> Generator[Path]:
    """A directory that other users may enter (an embedded PostgreSQL must), removed at the end."""
    path = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


@contextmanager
def running(
    config: str = "", env: Mapping[str, str] | None = None, doors: Collection[str] = ()
) -> Generator[Daemon]:
    """A daemon in a scratch directory, ready; ended by force if the test did not end it."""
    with scratch_dir() as root:
        daemon = Daemon(root, config, env, doors)
        try:
            yield daemon.start()
        finally:
            daemon.clean_up()
