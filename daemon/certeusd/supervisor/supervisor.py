"""The supervisor: makes what is shared, keeps the children and PostgreSQL alive, answers, ends.

One asyncio process on uvloop; it touches no event. The order of a start is also the order of what
may go wrong with a message a human can use: locks (75), configuration and directories (78),
sockets, then children. The end is a drain: workers, log writer, flusher, then PostgreSQL, exit 0.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from certeusd import __version__, config_shown, config_sources, logs, systemd
from certeusd.board import BOARD_BYTES, Board
from certeusd.channel import Role
from certeusd.config import Config
from certeusd.config_sources import Loaded
from certeusd.control import access, health, metrics, types
from certeusd.control.exposed import Exposed
from certeusd.control.measures import Measures
from certeusd.control.server import ControlServer
from certeusd.control.sla import Sla
from certeusd.control.types import rfc3339
from certeusd.exits import Exit, ExitError
from certeusd.logs import Logger
from certeusd.paths import Paths
from certeusd.supervisor import (
    answers,
    directories,
    locks,
    memory,
    placing,
    recovering,
    reload,
    room,
    service_levels,
)
from certeusd.supervisor.bottleneck import Bottlenecks
from certeusd.supervisor.census import Census
from certeusd.supervisor.child import default_command
from certeusd.supervisor.equipment import Equipment
from certeusd.supervisor.fleet import Fleet
from certeusd.supervisor.lag import Lag
from certeusd.supervisor.measuring import Measuring
from certeusd.supervisor.orders import Orders
from certeusd.supervisor.postgres import EmbeddedPostgres
from certeusd.supervisor.pressure import Pressure
from certeusd.supervisor.progress import Progress
from certeusd.supervisor.scaler import Scaler
from certeusd.supervisor.scaling import Policy, Scaling
from certeusd.supervisor.service_levels import ServiceLevels
from certeusd.supervisor.sockets import Binder
from certeusd.supervisor.state import TAKES_EVENTS, Facts, Reasons, State, next_state
from certeusd.supervisor.watchdog import Watchdog

TICK_S = 1.0
RECOVERY_EXTEND_US = 30_000_000


class Settings(NamedTuple):
    """What a supervisor is started with."""

    loaded: Loaded
    paths: Paths
    config_file: str | None = None
    """Read again by `reload`; none: the usual places."""
    command: Callable[[Role], Sequence[str]] = default_command
    policy: Callable[[], Policy] = Scaling
    """How many workers there may be, and are to be."""


class Supervisor:
    """The service. `start` makes everything, `run` serves until it is drained, `close` lets go."""

    def __init__(self, settings: Settings, logger: Logger) -> None:
        self._paths = settings.paths
        self._loaded = settings.loaded
        self._config_file = settings.config_file
        self._command = settings.command
        self._policy = settings.policy()
        self._logger = logger
        self._state = State.STARTING
        self._since = time.time()
        self._started_at = time.monotonic()
        self._reasons = Reasons()
        self._lag = Lag()
        self._measuring = Measuring()
        self._drain_asked = asyncio.Event()
        self._told_ready = False
        self._status_line = systemd.StatusLine()
        self._owned = contextlib.ExitStack()
        self._postgres: EmbeddedPostgres | None = None
        self._dsn: str = ""
        self._external_since = (self._since, False)
        self._pending: tuple[str, ...] = ()
        self._bottlenecks = Bottlenecks()
        self._levels = ServiceLevels(settings.loaded.config.sla)
        self._pressure = Pressure(systemd.memory_pressure_file())
        self._watchdog = Watchdog(logger) if systemd.wants_watchdog() else None

    # --- start -------------------------------------------------------------------------------

    def start(self) -> None:
        """Take locks, make memory and sockets; children come with `run`.

        Raises:
            ExitError: 75 another daemon is here, 78 something must be configured.
        """
        paths, loaded = self._paths, self._loaded
        binder = Binder(paths, self._owned, self._logger)
        directories.make(paths)
        for directory in dict.fromkeys((paths.state_dir, paths.runtime_dir)):
            self._owned.callback(os.close, locks.hold(directory / "lock"))
        directories.refuse_half_restored(paths)
        directories.make_log_key(paths)
        self._placed = placing.place(loaded.config, self._policy, self._logger)
        workers = self._placed.placement.workers
        self._config = config_sources.effective(loaded.config, workers, os.geteuid())
        self._asked = self._asked_for(loaded.config)
        self._dsn = config_sources.postgres_dsn(loaded)
        self._api_key = config_sources.api_key(loaded.config.api)
        if not self._dsn:
            self._postgres = EmbeddedPostgres(
                paths.postgres,
                self._config.postgres.user,
                self._config.supervisor.stop_timeout_ms / 1000,
                self._logger,
                self._update,
            )
            self._postgres.prepare(self._reasons)
            self._dsn = self._postgres.dsn
        self._board_fd = memory.shared_memory(BOARD_BYTES)
        self._owned.callback(os.close, self._board_fd)
        self.board = Board(self._board_fd)
        self._progress = Progress(self.board, self._reasons)
        self._follower_bell = memory.bell()
        self._owned.callback(os.close, self._follower_bell)
        self._sockets = binder.bind(self._config)
        self._let_in(config_sources.roles(self._config.control))
        self._fleet = Fleet(self._equipment(), self._reasons, self._logger, self._update)
        self._scaler = Scaler(
            self._fleet, self.board, self._policy, self._asked.worker, self._placed.cpu_count,
            self._logger,
        )  # fmt: skip
        self.orders = Orders(self._fleet, self._reasons)
        self.census = Census(self._fleet)
        for warning in loaded.warnings:
            self._logger.warning("configuration_doubtful", what=warning)

    def _asked_for(self, config: Config) -> Config:
        """Resolve users and groups alone: what two configurations are compared by."""
        return config_sources.effective(config, config.worker.count, os.geteuid())

    def _let_in(self, roles: access.Roles) -> None:
        """Open the control socket to whoever has a role there."""
        self._roles = roles
        try:
            access.let_in(self._paths.control_socket, roles)
        except OSError as error:  # Other file systems, somebody else's socket: owner and group.
            self._logger.warning("control_access_not_given", error=str(error))

    def _equipment(self) -> Equipment:
        return Equipment(
            config=self._config,
            paths=self._paths,
            placement=self._placed.placement,
            board=self.board,
            board_fd=self._board_fd,
            follower_bell=self._follower_bell,
            listeners=[end.fileno() for end in self._sockets.ingest],
            doors={
                role: [end.fileno() for end in ends] for role, ends in self._sockets.doors.items()
            },
            postgres_dsn=self._dsn,
            api_key=self._api_key,
            command=self._command,
        )

    # --- run ---------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until SIGTERM, SIGINT or `drain`; then drain and return."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._drain_asked.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload_by_signal)
        control = self._server = ControlServer(self, self._roles, self._logger, logs.audit_logger())
        postgres: asyncio.Task[None] | None = None
        tick = loop.create_task(self._tick())
        tell = partial(self._reasons.tell, "supervisor")
        render = partial(metrics.render, self)
        self._exposed = Exposed(self._config.metrics, render, tell, self._logger)
        exposed = loop.create_task(self._exposed.run())
        try:
            await control.start(self._sockets.control)
            self._fleet.start()
            if self._postgres is not None:
                postgres = loop.create_task(self._postgres.run())
            # A fault of ours in one of these tasks must not go unseen.
            asked = loop.create_task(self._drain_asked.wait())
            tasks = {asked, tick, exposed}
            if postgres is not None:
                tasks.add(postgres)
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
            exposed.cancel()
            await asyncio.wait({exposed})
            await control.stop()

    async def _drain(self) -> None:
        self._logger.info("drain_started")
        systemd.notify("STOPPING=1")
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
        if self._state in TAKES_EVENTS and not self._told_ready:
            self._told_ready = True
            systemd.notify("READY=1")
        complaint = self._watchdog.complaint if self._watchdog else ""
        line = complaint or answers.line(self._state, self._reasons.listed(), self.board)
        self._status_line.tell(line)

    async def _tick(self) -> None:
        while True:
            self._fleet.measure()
            self._fleet.forgive(time.monotonic())
            self._sample()
            if self._state is State.RECOVERING and not self._told_ready:
                systemd.notify(f"EXTEND_TIMEOUT_USEC={RECOVERY_EXTEND_US}")
            self._update()
            await asyncio.sleep(TICK_S)

    def _sample(self) -> None:
        """Note the durable position, whether everybody gets on, and whether there is room."""
        durable = self.board.get("durability", "durable_seq")
        self._lag.note(durable, self.board.get("follower", "position_seq"))
        ready: list[tuple[Role, int]] = [
            (slot.role, slot.index) for slot in self._fleet.slots if slot.ready
        ]
        self._progress.sample(ready, time.time())
        if self._watchdog is not None:
            hung = self._progress.hung(ready)
            self._watchdog.feed(
                slot.name for slot in self._fleet.slots
                if slot.name in hung and slot.child is not None
                and not slot.child.waits_for_disk()
            )  # fmt: skip
        room.look(self.board, self._reasons, time.time())
        self._pressure.act(self.orders.tell_flusher, self._reasons)
        self._look_at_levels()
        connected = bool(self.board.get("flush", "connected"))
        sample = answers.sample(self.board, self._fleet.places, self._reasons, connected=connected)
        self._bottlenecks.add(sample)
        found = self._bottlenecks.find()
        waits = sample.no_room or (found is not None and found.stage == "commit")
        self._scaler.look(waits=waits, now=time.monotonic())
        if connected != self._external_since[1]:
            self._external_since = (time.time(), connected)

    def _look_at_levels(self) -> None:
        """Note for `[sla]` what is counted, and whether events are taken."""
        full = any(one.code in health.NO_ROOM for one in self._reasons.listed())
        taken = self.takes_events and not full
        self._levels.note(service_levels.look(self.board, len(self._fleet.places), taken=taken))

    # --- another configuration -----------------------------------------------------------------

    def configuration(self) -> types.Configuration:
        """What the daemon runs with."""
        return types.Configuration(
            sources=list(self._loaded.sources),
            keys=list(config_shown.every(self._asked, self._loaded.origins)),
            pending=list(self._pending),
        )

    def differences(self) -> types.Differences:
        """Compare with what files and variables say by now; ExitError: they cannot be used."""
        loaded = config_sources.load(self._config_file)
        read = self._asked_for(loaded.config)
        pending = reload.plan(self._asked, read).pending
        return types.Differences(
            differences=[
                types.Difference(
                    one.key, one.running, one.read, one.origin, reload.waits(one.key, pending)
                )
                for one in config_shown.differing(self._asked, read, loaded.origins)
            ]
        )

    def _reload_by_signal(self) -> None:
        """SIGHUP: nobody waits for an answer, so it is logged."""

        def tell(done: asyncio.Task[types.Reloaded]) -> None:
            if not done.cancelled() and (error := done.exception()) is not None:
                self._logger.error("configuration_not_reloaded", cause=str(error))

        asyncio.get_running_loop().create_task(self.reload()).add_done_callback(tell)

    async def reload(self) -> types.Reloaded:
        """Read the configuration again; who uses what has changed begins anew.

        Raises:
            ExitError: 78 it cannot be used and nothing has changed; 75 children are begun anew by
                another order, or one is not ready again.
        """
        with self._measuring.reload():
            return await self._reload()

    async def _reload(self) -> types.Reloaded:
        self.orders.check_free()
        started = time.monotonic()
        loaded = config_sources.load(self._config_file)
        asked = self._asked_for(loaded.config)
        dsn = config_sources.postgres_dsn(loaded) or self._dsn
        told = bool(loaded.dsn) and self._postgres is None
        same_server = asked.postgres.dsn == self._asked.postgres.dsn
        key = config_sources.api_key(asked.api)
        secrets = [
            *([reload.PASSWORD] if told and same_server and dsn != self._dsn else []),
            *([reload.API_KEY] if key != self._api_key else []),
        ]
        plan = reload.plan(self._asked, asked, secrets=secrets)
        roles = config_sources.roles(plan.config.control)
        if "log" in plan.roles and not self._fleet.log.ready:
            raise ExitError(Exit.TRY_AGAIN, "the log is being recovered; try again when it is open")
        # Nothing below can fail: a refused configuration changes nothing.
        self._loaded, self._asked, self._pending = loaded, plan.config, plan.pending
        if told:
            self._dsn = dsn
        self._config = plan.config
        self._api_key = key
        self._fleet.configure(self._config, self._dsn, key)
        self._scaler.configure(self._config.worker)
        self._exposed.configure(self._config.metrics)
        self._levels.configure(self._config.sla)
        self._let_in(roles)
        self._server.roles = roles
        restarted = [slot for role in plan.roles for slot in self._fleet.of(role)]
        await self.orders.restart(restarted)
        names = [slot.name for slot in restarted]
        self._logger.info(
            "configuration_reloaded", changed=list(plan.changed), restarted=names,
            pending=list(plan.pending),
        )  # fmt: skip
        return types.Reloaded(
            sources=list(loaded.sources),
            changed=list(plan.changed),
            restarted=names,
            pending=list(plan.pending),
            seconds=round(time.monotonic() - started, 3),
        )

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
        return types.Status(
            version=__version__,
            pid=os.getpid(),
            state=str(self._state),
            since=rfc3339(self._since),
            uptime_seconds=round(time.monotonic() - self._started_at, 3),
            reasons=answers.reasons(self._reasons),
            log_id=answers.log_id(self._fleet.reports),
            durable_seq=durable,
            accepted_seq=max(durable, board.get("durability", "accepted_seq")),
            flushed_seq=flushed,
            lag_events=max(0, durable - flushed),
            lag_seconds=self._lag.seconds(flushed),
            sessions=sum(board.get("worker", "sessions", at.index) for at in self._fleet.places),
            producers=board.get("log", "producers"),
            dedup=answers.dedup(board),
            log=answers.log(board),
            recovery=recovering.seen(self.board) if self._state is State.RECOVERING else None,
            postgres=answers.postgres(
                board, self._postgres, self._fleet.reports, self._external_since
            ),
            workers=self.workers(),
            processes=self.processes(),
            reports=self._fleet.reports,
            state_dir=str(self._paths.state_dir),
            runtime_dir=str(self._paths.runtime_dir),
            warnings=list(self._loaded.warnings),
            pending=list(self._pending),
            bottleneck=self._bottlenecks.find(),
            scaling=self.scaling(),
        )

    def measures(self) -> Measures:
        """What is measured for `/metrics`."""
        lag_s = self._lag.seconds(self.board.get("follower", "position_seq"))
        return self._measuring.now(
            self._fleet.wanted, len(self._fleet.places), lag_s, self._config.thresholds, self.sla()
        )

    def sla(self) -> Sla:
        """Whether the service levels are met, as of now."""
        self._look_at_levels()
        return self._levels.now(time.time())

    def workers(self) -> list[types.Process]:
        """One row a worker."""
        return [answers.process(self.board, slot) for slot in self._fleet.workers]

    def scaling(self) -> types.Scaling:
        """How many workers there are, may be, and why."""
        return self._scaler.shown()

    def processes(self) -> list[types.Process]:
        """Log writer, flusher, doors."""
        rest = (self._fleet.log, self._fleet.flush, *self._fleet.doors)
        return [answers.process(self.board, slot) for slot in rest]

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
