"""Serves the route table on `control.sock`: who asks, may they, and what becomes of a fault."""

import socket
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from certeusd.control.access import Roles
from certeusd.control.backend import Backend
from certeusd.control.routes import (
    ROUTES,
    ProblemError,
    Request,
    Route,
    check_query,
    problem_response,
    text_type,
)
from certeusd.control.types import Problem
from certeusd.logs import Logger
from certeusd.peer import Peer, peer_of

SOCKET_MODE = 0o660
SHUTDOWN_TIMEOUT_S = 1.0


class ControlServer:
    """The running API."""

    def __init__(self, backend: Backend, roles: Roles, logger: Logger, audit: Logger) -> None:
        self._backend = backend
        self.roles = roles
        """Who may ask what; may be replaced at any time."""
        self._logger = logger
        self._audit_log = audit
        self._runner: web.AppRunner | None = None

    async def start(self, listener: socket.socket) -> None:
        """Serve on `listener`, which is closed by `stop`."""
        application = web.Application()
        for route in ROUTES:
            application.router.add_route(route.method, route.path, self._serve(route))
        application.middlewares.append(self._unknown)
        self._runner = web.AppRunner(
            application, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S
        )
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()

    async def stop(self) -> None:
        """Close the socket and all connections."""
        if self._runner is not None:
            await self._runner.cleanup()

    @web.middleware
    async def _unknown(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        """Turn what aiohttp itself refuses into problems."""
        try:
            return await handler(request)
        except web.HTTPException as error:
            detail = f"{request.method} {request.path}: {error.reason}; see /openapi.json"
            kind = "urn:certeus:problem:bad-request"
            answer = problem_response(Problem(kind, error.reason, error.status, detail))
            if "Allow" in error.headers:
                answer.headers["Allow"] = error.headers["Allow"]
            return answer

    def _serve(self, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                return await self._answer(route, request)
            except ProblemError as error:
                return problem_response(error.problem)
            except Exception as error:  # the boundary: the API answers, whatever happened inside
                self._logger.error("control_request_failed", path=route.path, exc_info=error)
                kind = "urn:certeus:problem:bug"
                return problem_response(
                    Problem(kind, "bug", 500, f"{type(error).__name__}: see the log")
                )

        return handle

    async def _answer(self, route: Route, request: web.Request) -> web.StreamResponse:
        end = request.get_extra_info("socket")
        if end is None:
            raise ProblemError(403, "not-allowed", "not allowed", "the connection is gone")
        peer = peer_of(end)
        access = self.roles.of(peer)
        outcome = "not answered"
        try:
            if access is None or access < route.access:
                raise ProblemError(
                    403, "not-allowed", "not allowed",
                    f"uid {peer.uid} is {'nobody here' if access is None else access.word}; this"
                    f" is for {route.access.word}s: see [control] of the configuration",
                )  # fmt: skip
            check_query(route, request.query)
            answer = await route.handler(
                Request(self._backend, dict(request.query), access, peer.uid)
            )
            outcome = "done"
        except ProblemError as error:
            outcome = error.problem.type
            raise
        finally:
            self._audit(route, request, peer, outcome)
        if isinstance(answer, str):
            return web.Response(
                body=answer.encode(), headers={"Content-Type": text_type(route.path)}
            )
        body = answer if isinstance(answer, bytes) else msgspec.json.encode(answer)
        return web.Response(body=body, content_type="application/json")

    def _audit(self, route: Route, request: web.Request, peer: Peer, outcome: str) -> None:
        """One line for each order, whoever gave it and whatever became of it."""
        if route.method == "GET":
            return
        self._audit_log.info(
            "control_ordered", path=route.path, query=dict(request.query), uid=peer.uid,
            pid=peer.pid, outcome=outcome,
        )  # fmt: skip
