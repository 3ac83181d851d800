"""From a connection to an answer: who asks, may they, and what becomes of a fault."""

import asyncio
import contextlib
import resource
import socket
import time
from collections.abc import Generator

from aiohttp import web

from certeusd.api.about import Supervisor
from certeusd.api.bodies import Bodies
from certeusd.api.connections import Connection, Connections
from certeusd.api.faults import answered
from certeusd.api.forwarded import check_forwarded
from certeusd.api.listening import Acceptor
from certeusd.api.live import Watching
from certeusd.api.peers import Caller, Peers
from certeusd.api.port import Port, check_site
from certeusd.api.problems import ProblemError
from certeusd.api.producers import Producers
from certeusd.api.reading import Reading
from certeusd.api.routes import ROUTES
from certeusd.api.routing import Context, Route, check_query
from certeusd.api.slots import Slots, affordable
from certeusd.api.throttle import Throttle
from certeusd.control.exposed import address
from certeusd.door_process import DoorProcess
from certeusd.peer import peer_of

TICK_S = 1.0
REQUESTS_DRAIN_PART = 0.5
"""Of the time to drain: for requests under way; the rest is for what they have appended."""
BODIES_DRAIN_PART = 0.25
"""Of the time to drain: for bodies that are still coming; their answers need some of it, too."""


class Server:
    """Serves the table of routes."""

    def __init__(self, process: DoorProcess) -> None:
        self._process = process
        self._peers = Peers(process.config.api, process.start.api_key)
        self._producers = Producers(process, self._peers.rule)
        self._supervisor = Supervisor(process.paths.control_socket)
        api = process.config.api
        self._context = Context(
            process, self._producers, self._supervisor,
            Bodies(api.body_bytes_max, api.body_timeout_ms / 1000),
            Throttle(api.events_per_s_max, lambda: process.count("throttled_total")),
            Reading(process), Watching(process, self._supervisor),
        )  # fmt: skip
        self._connections = Connections(self._handle, self._slots(), process.count)
        self._routes: dict[str, dict[str, Route]] = {}
        for route in ROUTES:
            self._routes.setdefault(route.path, {})[route.method] = route

    def _slots(self) -> Slots:
        wanted = self._process.config.api.connections_max
        descriptors_max, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = affordable(wanted, descriptors_max)
        if most < wanted:
            self._process.logger.warning(
                "api_connections_fewer", configured=wanted, served=most,
                next="raise LimitNOFILE= of the service, or lower api.connections_max",
            )  # fmt: skip
        return Slots(most, self._process.config.api.connections_per_peer_max)

    async def run(self) -> None:
        """Serve until the process drains; then finish what is under way."""
        (listener,) = self._process.listeners
        acceptor = Acceptor(listener, self._admit_user, self._process.logger)
        acceptor.start()
        self._process.ready()
        with self._beside():
            await self._process.draining.wait()
            acceptor.stop()
        self._context.throttle.drain()
        self._context.bodies.drain(self._process.drain_timeout_s * BODIES_DRAIN_PART)
        await self._connections.close(self._process.drain_timeout_s * REQUESTS_DRAIN_PART)
        await self._producers.close(self._process.drain_timeout_s * (1 - REQUESTS_DRAIN_PART))
        await self._supervisor.close()

    @contextlib.contextmanager
    def _beside(self) -> Generator[None]:
        """What runs for as long as connections are taken."""
        work = [self._tick(), self._sweep()]
        at = address(self._process.config.api.listen)
        if at is not None:
            work.append(Port(at, lambda _: self._connections.admit(None), self._process).run())
        loop = asyncio.get_running_loop()
        tasks = [loop.create_task(one) for one in work]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()

    def _admit_user(self, end: socket.socket) -> Connection | None:
        return self._connections.admit(self._peers.of_user(peer_of(end)))

    async def _tick(self) -> None:
        while True:
            await self._producers.close_quiet()
            self._process.gauge("producers", len(self._producers))
            await asyncio.sleep(TICK_S)

    async def _sweep(self) -> None:
        while True:
            self._connections.sweep(time.monotonic())
            self._process.gauge("connections", len(self._connections))
            await asyncio.sleep(TICK_S)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self._process.count("requests_total")
        answer = await answered(request, self._work(request), self._process.logger)
        self._observe(request, answer)
        return answer

    async def _work(self, request: web.BaseRequest) -> web.StreamResponse:
        caller = self._caller(request)
        route = self._route(request)
        self._check(route, caller)
        check_query(route, request.raw_path)
        answer = await route.handler(self._context, caller, request)
        self._process.progressed()
        return answer

    def _observe(self, request: web.BaseRequest, answer: web.StreamResponse) -> None:
        """Measure it, unless it is a stream, which takes as long as its reader stays."""
        connection = request.protocol
        if isinstance(answer, web.Response) and isinstance(connection, Connection):
            took_s = max(0.0, time.monotonic() - connection.first_byte_at)
            self._process.count("request_us_sum", round(took_s * 1e6))
            self._process.board.observe("api", "request_ns_buckets_64", round(took_s * 1e9))

    def _route(self, request: web.BaseRequest) -> Route:
        methods = self._routes.get(request.path)
        if methods is None:
            raise ProblemError(
                404, "not-found", "not found", f"there is no {request.path}; see /openapi.json"
            )
        if (route := methods.get(request.method)) is None:
            raise ProblemError(
                405, "method", "method not allowed", f"{request.path} takes {', '.join(methods)}",
                headers={"Allow": ", ".join(methods)},
            )  # fmt: skip
        return route

    def _caller(self, request: web.BaseRequest) -> Caller:
        connection = request.protocol
        if isinstance(connection, Connection) and connection.caller is not None:
            check_forwarded(request.headers)
            return connection.caller
        check_site(request.headers)
        return self._peers.of_headers(request.headers)

    def _check(self, route: Route, caller: Caller) -> None:
        if not (caller.appends if route.need == "append" else caller.reads):
            raise ProblemError(
                403, "not-allowed", "not allowed",
                f"{caller.name} may not {route.need} here: see [api] of the configuration",
            )  # fmt: skip


async def serve(process: DoorProcess) -> None:
    """Be the api's process."""
    with contextlib.closing(process.listeners[0]):
        await Server(process).run()
