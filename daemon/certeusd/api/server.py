"""From a connection to an answer: who asks, may they, and what becomes of a fault."""

import asyncio
import contextlib
import socket

from aiohttp import web

from certeusd.api.about import Supervisor
from certeusd.api.peers import Caller, Peers
from certeusd.api.problems import ProblemError
from certeusd.api.producers import Producers
from certeusd.api.routes import ROUTES
from certeusd.api.routing import Context, Route
from certeusd.door_process import DoorProcess
from certeusd.peer import peer_of

TICK_S = 1.0
SHUTDOWN_TIMEOUT_S = 1.0


class Server:
    """Serves the table of routes."""

    def __init__(self, process: DoorProcess) -> None:
        self._process = process
        self._peers = Peers(process.config.api, process.start.api_key)
        self._producers = Producers(process, self._peers.rule)
        self._supervisor = Supervisor(process.paths.control_socket)
        self._context = Context(process, self._producers, self._supervisor)
        self._routes: dict[str, dict[str, Route]] = {}
        for route in ROUTES:
            self._routes.setdefault(route.path, {})[route.method] = route

    async def run(self) -> None:
        """Serve until the process drains; then finish what is under way."""
        (listener,) = self._process.listeners
        server = web.Server(self._handle, access_log=None)
        runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
        await runner.setup()
        await web.SockSite(runner, listener).start()
        self._process.ready()
        ticking = asyncio.get_running_loop().create_task(self._tick())
        await self._process.draining.wait()
        ticking.cancel()
        await runner.cleanup()
        await self._producers.close(self._process.drain_timeout_s)
        await self._supervisor.close()

    async def _tick(self) -> None:
        while True:
            await self._producers.close_quiet()
            self._process.gauge("producers", len(self._producers))
            await asyncio.sleep(TICK_S)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self._process.count("requests_total")
        try:
            route = self._route(request)
            caller = self._caller(request)
            self._check(route, caller)
            answer = await route.handler(self._context, caller, request)
        except ProblemError as error:
            return error.response()
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:  # the boundary: it answers, whatever happened inside
            self._process.logger.error("api_request_failed", path=request.path, exc_info=error)
            return ProblemError(
                500, "bug", "bug", f"{type(error).__name__}: see the log"
            ).response()
        self._process.progressed()
        return answer

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
        end = request.get_extra_info("socket")
        if end is None:
            raise ProblemError(403, "not-allowed", "not allowed", "the connection is gone")
        if end.family == socket.AF_UNIX:
            return self._peers.of_user(peer_of(end))
        return self._peers.of_headers(request.headers)

    def _check(self, route: Route, caller: Caller) -> None:
        if not (caller.appends if route.need == "append" else caller.reads):
            raise ProblemError(
                403, "not-allowed", "not allowed",
                f"{caller.name} may not {route.need} here: see [api] of the configuration",
            )  # fmt: skip


async def serve(process: DoorProcess) -> None:
    """Be the api's process."""
    # uvloop closes the listening socket with its server; one of systemd's stays open elsewhere.
    with contextlib.closing(process.listeners[0]):
        await Server(process).run()
