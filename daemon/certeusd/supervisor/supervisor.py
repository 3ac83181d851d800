"""The supervisor: makes what is shared, keeps the children and PostgreSQL alive, answers, ends.

One asyncio process on uvloop; it touches no event. The order of a start is also the order of what
may go wrong with a message a human can use: locks (75), configuration and directories (78),
sockets, then children. The end is a drain: workers, log writer, flusher, then PostgreSQL, exit 0.
"""

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from certeusd import __version__, config_sources, cpus, systemd
from certeusd.board import BOARD_BYTES, Board
from certeusd.channel import AcceptDeadLetters, AcceptGap, Order, Retry, Role
from certeusd.config_sources import Loaded
from certeusd.control import types
from certeusd.control.server import ControlServer, bind, group_number
from certeusd.control.types import rfc3339
from certeusd.exits import Exit, ExitError
from certeusd.logs import Logger
from certeusd.paths import Paths
from certeusd.supervisor import listeners, locks, memory, pinning, recovering, room, topology
from certeusd.supervisor.child import default_command
from certeusd.supervisor.fleet import Equipment, Fleet, Slot
from certeusd.supervisor.postgres import EmbeddedPostgres, ServerState
from certeusd.supervisor.progress import Progress
from certeusd.supervisor.state import TAKES_EVENTS, Facts, Reasons, State, next_state

TICK_S = 1.0
LAG_SAMPLES_MAX = 3600
RECOVERY_EXTEND_US = 30_000_000


class Settings(NamedTuple):
    """What a supervisor is started with."""

    loaded: Loaded
    paths: Paths
    command: Callable[[Role], Sequence[str]] = default_command


def make_directories(paths: Paths) -> None:
    """Make both directories and what is in them; what exists keeps its permissions.

    A state directory that we make may be entered by all, because the server of the embedded
    PostgreSQL has its socket inside; nothing else in it can be read by others.
    """
    try:
        for directory, mode in ((paths.state_dir, 0o711), (paths.runtime_dir, 0o755)):
            for missing in reversed([directory, *directory.parents]):
                if not missing.exists():
                    missing.mkdir(exist_ok=True)
                    missing.chmod(mode)  # Whatever the umask.
        for inner in (paths.log, paths.followers, paths.quarantine, paths.log_key.parent):
            inner.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ExitError(
            Exit.CONFIGURATION,
            f"cannot make {error.filename}: {error.strerror}; give --state-dir and --runtime-dir"
            " that this user may write",
        ) from error


def make_log_key(paths: Paths) -> None:
    """Make the log's secret, once: whole and synced before it has its name."""
    if paths.log_key.exists():
        return
    making = paths.log_key.with_suffix(".new")
    making.unlink(missing_ok=True)
    descriptor = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, secrets.token_bytes(32))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    making.rename(paths.log_key)
    directory = os.open(paths.log_key.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


class Supervisor:
    """The service. `start` makes everything, `run` serves until it is drained, `close` lets go."""

    def __init__(self, settings: Settings, logger: Logger) -> None:
        self._paths = settings.paths
        self._loaded = settings.loaded
        self._command = settings.command
        self._logger = logger
        self._state = State.STARTING
        self._since = time.time()
        self._started_at = time.monotonic()
        self._reasons = Reasons()
        self._lag: deque[tuple[float, int]] = deque(maxlen=LAG_SAMPLES_MAX)
        self._drain_asked = asyncio.Event()
        self._told_ready = False
        self._owned = contextlib.ExitStack()
        self._postgres: EmbeddedPostgres | None = None
        self._dsn = ""
        self._external_since = (self._since, False)

    # --- start -------------------------------------------------------------------------------

    def start(self) -> None:
        """Take locks, make memory and sockets; children come with `run`.

        Raises:
            ExitError: 75 another daemon is here, 78 something must be configured.
        """
        paths, loaded = self._paths, self._loaded
        make_directories(paths)
        for directory in dict.fromkeys((paths.state_dir, paths.runtime_dir)):
            self._owned.callback(os.close, locks.hold(directory / "lock"))
        make_log_key(paths)
        self._place()
        workers = self.placement.workers
        self._config = config_sources.effective(loaded.config, workers, os.geteuid())
        self._dsn = config_sources.postgres_dsn(loaded)
        if not self._dsn:
            self._postgres = EmbeddedPostgres(
                paths.postgres,
                self._config.postgres.user,
                self._config.supervisor.stop_timeout_ms / 1000,
                self._logger,
                self._update,
            )
            self._postgres.prepare()
            self._dsn = self._postgres.dsn
        self._board_fd = memory.shared_memory(BOARD_BYTES)
        self._owned.callback(os.close, self._board_fd)
        self.board = Board(self._board_fd)
        self._progress = Progress(self.board, self._reasons)
        self._follower_bell = memory.bell()
        self._owned.callback(os.close, self._follower_bell)
        self._listeners = [self._listen(at) for at in range(len(self._config.ingest))]
        self._fleet = Fleet(self._equipment(), self._reasons, self._logger, self._update)
        for warning in loaded.warnings:
            self._logger.warning("configuration_doubtful", what=warning)

    def _place(self) -> None:
        """Plan who runs where, and go to where whatever is not pinned runs; children inherit it."""
        asked, allowed = self._loaded.config, frozenset(os.sched_getaffinity(0))
        placement = pinning.plan(topology.read(), allowed, asked.cpu, asked.worker.count)
        self._logger.info(
            "cpus_planned", allowed=cpus.shown(allowed), workers=placement.workers,
            log=placement.log, worker=list(placement.worker), flush=placement.flush,
            rest=cpus.shown(placement.rest), why=placement.why,
        )  # fmt: skip
        self.placement = placement
        if placement.rest != allowed:
            try:
                os.sched_setaffinity(0, placement.rest)
            except OSError as error:  # A sandbox may forbid it: slower, and no reason to stop.
                self._logger.warning("supervisor_not_pinned", error=str(error))

    def _listen(self, at: int) -> socket.socket:
        listener = self._config.ingest[at]
        path = self._paths.runtime_dir / listener.path
        bound = listeners.bind(path, socket.SOCK_SEQPACKET, listener.mode)
        self._owned.callback(path.unlink, missing_ok=True)
        return self._owned.enter_context(bound)

    def _equipment(self) -> Equipment:
        return Equipment(
            config=self._config,
            paths=self._paths,
            placement=self.placement,
            board=self.board,
            board_fd=self._board_fd,
            follower_bell=self._follower_bell,
            listeners=[listener.fileno() for listener in self._listeners],
            postgres_dsn=self._dsn,
            command=self._command,
        )

    # --- run ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until SIGTERM, SIGINT or `drain`; then drain and return."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._drain_asked.set)
        control = ControlServer(self, group_number(self._config.control.group), self._logger)
        postgres: asyncio.Task[None] | None = None
        tick = loop.create_task(self._tick())
        try:
            await control.start(self._bind_control())
            self._fleet.start()
            if self._postgres is not None:
                postgres = loop.create_task(self._postgres.run())
            # A fault of ours in one of these tasks must not go unseen.
            asked = loop.create_task(self._drain_asked.wait())
            tasks = {asked, tick} if postgres is None else {asked, tick, postgres}
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            asked.cancel()
            for task in done:
                task.result()
            await self._drain()
            if self._postgres is not None and postgres is not None:
                self._postgres.stop()
                await postgres
        finally:
            self._fleet.kill_all()
            tick.cancel()
            await control.stop()
            self._paths.control_socket.unlink(missing_ok=True)

    def _bind_control(self) -> socket.socket:
        group = group_number(self._config.control.group)
        listener, given = bind(self._paths.control_socket, group)
        if group is not None and not given:
            self._logger.warning("control_group_not_given", group=self._config.control.group)
        return listener

    async def _drain(self) -> None:
        self._logger.info("drain_started")
        systemd.notify("STOPPING=1", "STATUS=draining")
        draining = asyncio.get_running_loop().create_task(self._fleet.drain())
        self._fleet.draining = True
        self._update()
        await draining
        self._logger.info("drain_finished", durable_seq=self.board.get("durability", "durable_seq"))

    def close(self) -> None:
        """Give back sockets, memory and locks."""
        self._owned.close()

    # --- state -------------------------------------------------------------------------------

    def _update(self) -> None:
        """Bring the state to what the facts say; called whenever one of them has changed."""
        fleet = self._fleet
        facts = Facts(
            draining=fleet.draining,
            log_spawned=fleet.log.child is not None or self._state is not State.STARTING,
            log_ready=fleet.log.ready,
            workers_ready=sum(slot.ready for slot in fleet.workers),
            reasons=len(self._reasons),
        )
        while (new := next_state(self._state, facts)) is not self._state:
            old, self._state, self._since = self._state, new, time.time()
            codes = [reason.code for reason in self._reasons.listed()]
            self._logger.info("state_changed", old=str(old), new=str(new), reasons=codes)
            systemd.notify(f"STATUS={new}" + (f": {', '.join(codes)}" if codes else ""))
        if self._state in TAKES_EVENTS and not self._told_ready:
            self._told_ready = True
            systemd.notify("READY=1")

    async def _tick(self) -> None:
        while True:
            self._fleet.measure()
            self._fleet.forgive(time.monotonic())
            self._sample()
            if self._state is State.RECOVERING and not self._told_ready:
                systemd.notify(
                    f"EXTEND_TIMEOUT_USEC={RECOVERY_EXTEND_US}",
                    f"STATUS={recovering.line(self.board, self._reasons.listed())}",
                )
            self._update()
            await asyncio.sleep(TICK_S)

    def _sample(self) -> None:
        """Note the durable position, whether everybody gets on, and whether there is room."""
        self._lag.append((time.monotonic(), self.board.get("durability", "durable_seq")))
        ready: list[tuple[Role, int]] = [
            (slot.role, slot.index) for slot in self._fleet.slots if slot.ready
        ]
        self._progress.sample(ready, time.time())
        self._look_at_room()
        connected = bool(self.board.get("flush", "connected"))
        if connected != self._external_since[1]:
            self._external_since = (time.time(), connected)

    def _look_at_room(self) -> None:
        """Say what keeps the log from growing: its bound, or the disk."""
        full, short = self.board.get("log", "full"), self.board.get("log", "disk_short")
        code = room.reason(full=bool(full), short=bool(short))
        for other in set(room.REASONS) - {code}:
            self._reasons.remove("supervisor", other)
        if code is not None:
            free_mib = self.board.get("log", "disk_free_bytes") >> 20
            what, next_step = room.REASONS[code]
            self._reasons.add(
                "supervisor", code, what.format(free_mib=free_mib), next_step, time.time()
            )

    def _lag_seconds(self, flushed: int) -> float:
        """Seconds since `durable` first passed what PostgreSQL has; a sample a second."""
        for at, durable in self._lag:
            if durable > flushed:
                return round(time.monotonic() - at, 3)
        return 0.0

    # --- what the control API asks (certeusd.control.backend.Backend) --------------------------

    @property
    def takes_events(self) -> bool:
        """Whether producers are served."""
        return self._state in TAKES_EVENTS

    def status(self) -> types.Status:
        """Everything about the service."""
        board = self.board
        durable = board.get("durability", "durable_seq")
        flushed = board.get("follower", "position_seq")
        from_ns = board.get("log", "dedup_from_ns")
        slots = range(len(self._fleet.workers))
        reasons = [
            types.Reason(_code(r.code), rfc3339(r.since), r.what, r.next)
            for r in self._reasons.listed()
        ]
        return types.Status(
            version=__version__,
            pid=os.getpid(),
            state=str(self._state),
            since=rfc3339(self._since),
            uptime_seconds=round(time.monotonic() - self._started_at, 3),
            reasons=reasons,
            log_id=self._log_id(),
            durable_seq=durable,
            accepted_seq=max(durable, board.get("durability", "accepted_seq")),
            flushed_seq=flushed,
            lag_events=max(0, durable - flushed),
            lag_seconds=self._lag_seconds(flushed),
            sessions=sum(board.get("worker", "sessions", at) for at in slots),
            producers=board.get("log", "producers"),
            dedup=types.Dedup(
                board.get("log", "dedup_from_seq"),
                rfc3339(from_ns / 1e9) if from_ns else None,
                board.get("log", "dedup_keys"),
            ),
            log=self._log_status(),
            recovery=recovering.seen(self.board) if self._state is State.RECOVERING else None,
            postgres=self._postgres_status(),
            workers=self.workers(),
            processes=self.processes(),
            reports=self._fleet.reports,
            state_dir=str(self._paths.state_dir),
            runtime_dir=str(self._paths.runtime_dir),
            warnings=list(self._loaded.warnings),
        )

    def _log_status(self) -> types.Log:
        words = dict(self.board.items("log"))
        return types.Log(
            bytes=words["log_bytes"],
            bytes_max=words["log_bytes_max"],
            segments=words["segments"],
            first_seq=words["first_seq"],
            full=bool(words["full"]),
            disk_free_bytes=words["disk_free_bytes"],
            disk_short=bool(words["disk_short"]),
            groups_total=words["groups_total"],
            records_total=words["records_total"],
            rejected_total=words["rejected_total"],
            duplicates_total=words["duplicates_total"],
            stale_total=words["stale_total"],
            torn_total=words["torn_total"],
            damaged_total=words["damaged_total"],
        )

    def _log_id(self) -> str | None:
        for report in self._fleet.reports.values():
            found = report.get("log_id")
            if isinstance(found, str):
                return found
        return None

    def _postgres_status(self) -> types.Postgres:
        connected = bool(self.board.get("flush", "connected"))
        breaker = types.breaker_of(self._fleet.reports.get("breaker"))
        reported = self._fleet.reports.get("postgres", {}).get("version")
        version = str(reported) if reported is not None else None
        server = self._postgres
        if server is not None:
            what = server.failure if server.state is ServerState.AWAY else ""
            state, since = str(server.state), rfc3339(server.since)
            return types.Postgres(
                "embedded", state, since, server.version, connected, what, breaker
            )
        state = "ready" if connected else "away"
        return types.Postgres(
            "external",
            state,
            rfc3339(self._external_since[0]),
            version,
            connected,
            breaker=breaker,
        )

    def workers(self) -> list[types.Process]:
        """One row a worker."""
        return [self._process(slot) for slot in self._fleet.workers]

    def processes(self) -> list[types.Process]:
        """Log writer and flusher."""
        return [self._process(self._fleet.log), self._process(self._fleet.flush)]

    def _process(self, slot: Slot) -> types.Process:
        child = slot.child
        return types.Process(
            name=slot.name,
            role=slot.role,
            index=slot.index,
            pid=child.pid if child else None,
            ready=slot.ready,
            since=rfc3339(child.spawned_at) if child else None,
            restarts=slot.backoff.restarts,
            crash_loop=slot.backoff.crash_loop,
            cpu=slot.cpu,
            cpu_percent=slot.measured[0],
            rss_bytes=slot.measured[1],
            counters=dict(self.board.items(slot.role, slot.index)),
        )

    def dsn(self, show_password: bool) -> str | None:
        """URL of the database, once the flusher has found its schema there."""
        if not self.board.get("flush", "connected"):
            return None
        return self._dsn if show_password else config_sources.without_password(self._dsn)

    @property
    def log_dir(self) -> Path:
        """Where the segments are."""
        return self._paths.log

    @property
    def followers_dir(self) -> Path:
        """Where the followers' positions are."""
        return self._paths.followers

    def drain(self) -> None:
        """As SIGTERM does."""
        self._drain_asked.set()

    def gap(self) -> tuple[int, int] | None:
        """First and last number of the gap at which the flusher is stopped."""
        report = self._fleet.reports.get("gap")
        return types.range_of(report) if report else None

    def accept_gap(self, first_seq: int, last_seq: int) -> None:
        """Tell the flusher, which compares once more."""
        self._order(AcceptGap(first_seq, last_seq))

    def accept_dead_letters(self, until_seq: int) -> bool:
        """Tell the flusher."""
        return self._order(AcceptDeadLetters(until_seq))

    def retry(self) -> bool:
        """Tell the flusher."""
        return self._order(Retry())

    def _order(self, order: Order) -> bool:
        child = self._fleet.flush.child
        return child is not None and child.send(order)


def _code(code: str) -> str:
    """Return the stable word of a reason: which child it is stands in `what`."""
    return "crash-loop" if code.startswith("crash-loop-") else code
