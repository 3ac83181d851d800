"""The embedded PostgreSQL as a child of the supervisor: made, started, watched, never doubled.

```text
making ──▶ starting ──▶ ready ──▶ stopping ──▶ stopped
   ▲──────────┴─ away ◀───┘        every failure: again, with backoff
```

Where the binaries are not installed, or are being unpacked, it is away until they are whole: events
are taken meanwhile.

The postmaster is a direct child with PDEATHSIG, so it ends with the supervisor. One that survived
all the same (it was just ending, or the host was odd) is found by its `postmaster.pid` and stopped
before another is started. A user's statement or a full disk cannot stop the daemon: events stay in
the log.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path

import psutil

from certeusd import systemd
from certeusd.exits import ExitError
from certeusd.logs import Logger
from certeusd.supervisor import postgres_cluster as cluster
from certeusd.supervisor import postgres_install as installation
from certeusd.supervisor.backoff import Backoff
from certeusd.supervisor.child import watch_exit
from certeusd.supervisor.postgres_output import Lines, ServerLog
from certeusd.supervisor.state import Reasons

READY_POLL_S = 0.05
INSTALLED_POLL_S = 2.0
QUIT_TIMEOUT_S = 5.0
READ_BYTES = 1 << 16


class ServerState(StrEnum):
    """What `status` says of the embedded server."""

    MAKING = "making"
    STARTING = "starting"
    READY = "ready"
    AWAY = "away"
    STOPPING = "stopping"
    STOPPED = "stopped"


class EmbeddedPostgres:
    """One cluster in `home`, served while `run` runs."""

    def __init__(
        self,
        home: Path,
        user: str,
        stop_timeout_s: float,
        logger: Logger,
        changed: Callable[[], None],
    ) -> None:
        self.home = home
        self.data = home / "data"
        self.state = ServerState.STOPPED
        self.since = time.time()
        self.failure = ""
        self.version = ""
        self.pid: int | None = None
        self._configured_user = user
        self._stop_timeout_s = stop_timeout_s
        self._logger = logger
        self._changed = changed
        self._backoff = Backoff()
        self._stopping = asyncio.Event()
        self._install = Path()
        self._user: installation.User | None = None
        self._reasons: Reasons | None = None
        self._other_major: tuple[str, str] | None = None
        """What is the matter with the cluster's version, and the next step."""
        self._prepared = False

    @property
    def dsn(self) -> str:
        """URL of the role that owns the schema."""
        return cluster.dsn(self.home)

    def prepare(self, reasons: Reasons | None = None) -> None:
        """Look at all that needs a human: exits 78 saying what; changes only `home`.

        A cluster of another major version is not touched: that is one of `reasons`, and events stay
        in the log. Binaries that are not there may be installed later.
        """
        self._reasons = reasons
        try:
            self._look()
        except installation.NotInstalledError as error:
            self.failure = str(error)
            self._logger.warning("postgres_not_installed", reason=self.failure)
        self._tell_version()

    def _look(self) -> None:
        install = installation.wheel_install()
        self._user = user = installation.server_user(self._configured_user, self.data)
        cluster.prepare_home(self.home, user)
        installation.check_unpacked(install)
        self._install, copied = installation.usable_install(install, user, self.home)
        if copied:
            self._logger.info(
                "postgres_binaries_copied", source=str(install), path=str(self._install),
                reason=f"user {user.name} cannot reach them where they are installed",
            )  # fmt: skip
        self.version = installation.server_version(self._install)
        self._other_major = cluster.other_major(self.data, self.version)
        self._prepared = True

    def _tell_version(self) -> None:
        if self._other_major is not None:
            self.failure = self._other_major[0]
            if self._reasons is not None:
                self._reasons.add("supervisor", "postgres-version", *self._other_major, time.time())

    async def run(self) -> None:
        """Make the cluster if need be and keep a server running, until `stop`."""
        await self._wait_until_installed()
        if self._other_major is not None:
            self._move(ServerState.AWAY)
            await self._stopping.wait()
        while not self._stopping.is_set():
            try:
                await self._one_life()
                self.failure = "the server ended"
            except (cluster.ClusterError, OSError) as error:
                self.failure = str(error)
            if self._stopping.is_set():
                break
            self._move(ServerState.AWAY)
            delay_s = self._backoff.died()
            self._logger.warning(
                "postgres_ended", reason=self.failure, delay_ms=round(delay_s * 1000)
            )
            await self._pause(delay_s)
        self._move(ServerState.STOPPED)

    def stop(self) -> None:
        """Ask `run` to end: a fast shutdown, an immediate one after a while, then SIGKILL."""
        self._stopping.set()

    async def _wait_until_installed(self) -> None:
        while not self._prepared and not self._stopping.is_set():
            self._move(ServerState.AWAY)
            await self._pause(INSTALLED_POLL_S)
            try:
                await asyncio.to_thread(self._look)
            except installation.NotInstalledError as error:
                self.failure = str(error)
                self._tell_setup("")
            except ExitError as error:
                self._tell_setup(str(error))
            except Exception as error:
                # Whatever it is, a daemon that takes events does not end by it.
                self._tell_setup(f"cannot set up the embedded PostgreSQL: {error!r}")
            else:
                self._tell_setup("")
                self._tell_version()
                self._changed()

    def _tell_setup(self, what: str) -> None:
        if what and what != self.failure:
            self.failure = what
            self._logger.error("postgres_setup_failed", reason=what)
        if self._reasons is not None:
            next_step = f"correct it; certeusd looks again every {INSTALLED_POLL_S:g} s by itself"
            self._reasons.tell("supervisor", "postgres-setup", what, next_step, time.time())
            self._changed()

    async def _one_life(self) -> None:
        assert self._user is not None, "prepare comes first"
        await self._stop_survivor()
        if not self.data.exists():
            self._move(ServerState.MAKING)
            await cluster.make_cluster(self.home, self._install, self._user, self._run_once)
            self._logger.info("postgres_cluster_made", version=self.version, path=str(self.data))
        if self._stopping.is_set():
            return
        cluster.write_access_files(self.home, self._user)
        self._move(ServerState.STARTING)
        process = self._popen(cluster.server_command(self.home, self._install), subprocess.DEVNULL)
        loop = asyncio.get_running_loop()
        exited = watch_exit(loop, process)
        self.pid = process.pid
        output = loop.create_task(self._log_output(process))
        stopping = loop.create_task(self._stop_asked())
        try:
            while not exited.done() and not self._stopping.is_set():
                timeout = None if self.state is ServerState.READY else READY_POLL_S
                either: set[asyncio.Future[int]] = {exited, stopping}
                await asyncio.wait(either, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
                if self.state is ServerState.STARTING and self._is_ready(process.pid):
                    self._backoff.progress()
                    self._move(ServerState.READY)
            if not exited.done():
                self._move(ServerState.STOPPING)
                await _end(process.pid, exited, self._stop_timeout_s)
            await output
        finally:
            self.pid = None
            stopping.cancel()
            output.cancel()

    def _move(self, state: ServerState) -> None:
        if state is self.state:
            return
        self.state = state
        self.since = time.time()
        self._logger.info("postgres_state_changed", state=str(state), version=self.version)
        self._changed()

    async def _stop_asked(self) -> int:
        await self._stopping.wait()
        return 0

    async def _pause(self, delay_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), delay_s)

    def _popen(self, command: Sequence[str], stdin: int) -> subprocess.Popen[bytes]:
        user = self._user
        assert user is not None
        helper = [sys.executable, "-P", "-m", "certeusd.supervisor.postgres_exec"]
        groups = ",".join(str(gid) for gid in user.groups)
        return subprocess.Popen(
            [*helper, str(os.getpid()), str(user.uid), str(user.gid), groups, "/", "--", *command],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=systemd.child_environment(),
        )

    async def _run_once(self, command: Sequence[str], stdin: bytes) -> tuple[int, str]:
        process = self._popen(command, subprocess.PIPE)
        loop = asyncio.get_running_loop()
        exited = watch_exit(loop, process)
        assert process.stdin is not None
        with process.stdin as pipe:
            pipe.write(stdin)  # Far below what a pipe holds: never waits.
        lines = list[str]()
        reading = loop.create_task(self._log_output(process, lines))
        stopping = loop.create_task(self._stop_asked())
        either: set[asyncio.Future[int]] = {exited, stopping}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not exited.done():
            await _end(process.pid, exited, self._stop_timeout_s)
        await reading
        return await exited, "\n".join(lines)

    async def _log_output(
        self, process: subprocess.Popen[bytes], lines: list[str] | None = None
    ) -> None:
        """Read what a program says: into `lines`, else into our own log, line by line."""
        assert process.stdout is not None
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), process.stdout
        )
        take = ServerLog(self._logger).take if lines is None else lines.append
        pieces = Lines(take)
        try:
            while data := await reader.read(READ_BYTES):
                pieces.feed(data)
            pieces.feed(b"")
        finally:
            transport.close()

    def _postmaster_file(self) -> list[str]:
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return []

    def _is_ready(self, pid: int) -> bool:
        # Line 1 is the pid, line 8 the status, as pg_ctl reads them.
        lines = self._postmaster_file()
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"

    async def _stop_survivor(self) -> None:
        """Stop a postmaster of this cluster that an earlier supervisor left."""
        lines = self._postmaster_file()
        if not lines or not lines[0].lstrip("-").isdigit():
            return
        pid = abs(int(lines[0]))
        if not _serves(pid, self.data):
            return
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        self._logger.warning("postgres_survivor_stopped", pid=pid)
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[int] = loop.create_future()

        def readable() -> None:
            loop.remove_reader(pidfd)
            ended.set_result(0)

        loop.add_reader(pidfd, readable)
        try:
            await _end(pid, ended, self._stop_timeout_s)
        finally:
            loop.remove_reader(pidfd)
            os.close(pidfd)


async def _end(pid: int, ended: asyncio.Future[int], fast_timeout_s: float) -> None:
    """Fast shutdown, then immediate, then SIGKILL; waits until it is over."""
    steps = (
        (signal.SIGINT, fast_timeout_s),
        (signal.SIGQUIT, QUIT_TIMEOUT_S),
        (signal.SIGKILL, None),
    )
    for number, timeout_s in steps:
        if ended.done():
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        await asyncio.wait({ended}, timeout=timeout_s)
    await ended


def _serves(pid: int, data: Path) -> bool:
    """Whether `pid` is a postmaster of the cluster in `data` (pids are used again)."""
    try:
        process = psutil.Process(pid)
        return process.name() == "postgres" and Path(process.cwd()) == data.resolve()
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
