"""`/metrics` outside of `control.sock`: a loopback port, a text file; both off unless configured.

What is shown is what a reader of `control.sock` sees, and everybody on this host sees it. A port
that is taken or a directory that may not be written is a reason in the status and is tried again;
nothing else is touched by it. Whoever floods the port gets a text of some moments ago, and at most
so many connections: the daemon needs its descriptors for producers.
"""

import asyncio
import contextlib
import ipaddress
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import NamedTuple, cast

from aiohttp import web

from certeusd.config import MetricsSection
from certeusd.logs import Logger

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PATH = "/metrics"
CONNECTIONS_MAX = 32
CONNECTION_S_MAX = 10.0
"""A scrape takes milliseconds; who keeps a connection keeps others out."""
FRESH_S = 0.2
"""For so long a text is given to others who ask at the port."""
AGAIN_S = 5.0
"""Between two attempts to bind the port."""
SHUTDOWN_TIMEOUT_S = 1.0
WRITE_TIMEOUT_S = 5.0
FILE_MODE = 0o644
PORT_REASON = "metrics-port"
TEXTFILE_REASON = "metrics-textfile"

Tell = Callable[[str, str, str, float], None]
"""Code, what has happened, the next step, seconds since 1970; nothing happened: it is over."""


class Address(NamedTuple):
    """Where to listen."""

    host: str
    port: int

    @property
    def family(self) -> socket.AddressFamily:
        """Of the socket."""
        return socket.AF_INET6 if ":" in self.host else socket.AF_INET


def address(listen: str) -> Address | None:
    """Read `metrics.listen`; None: it is empty.

    Raises:
        ValueError: it is no loopback address with a port.
    """
    if not listen:
        return None
    host, _, port = listen.rpartition(":")
    try:
        ip = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
        number = int(port)
    except ValueError:
        ip, number = ipaddress.ip_address("0.0.0.0"), 0
    if not ip.is_loopback or not 0 < number < 1 << 16 or (ip.version == 6) != ("[" in host):
        raise ValueError(
            f'"{listen}" is no loopback address; write "127.0.0.1:9464" or "[::1]:9464"'
        )
    return Address(str(ip), number)


class _Refused(asyncio.Protocol):
    """A connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are none of asyncio's classes.
        cast(asyncio.Transport, transport).abort()


def _abort(handler: web.RequestHandler) -> None:
    if handler.transport is not None:
        handler.transport.abort()


def _silent() -> logging.Logger:
    """What a stranger sends must not fill the journal."""
    logger = logging.Logger("certeusd.metrics", logging.CRITICAL + 1)
    logger.propagate = False
    return logger


class Port:
    """The loopback port: GET /metrics and nothing else."""

    def __init__(self, render: Callable[[], str]) -> None:
        self._render = render
        self._text = b""
        self._rendered_at = float("-inf")
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None

    @property
    def open(self) -> bool:
        """Whether it is served."""
        return self._server is not None

    async def start(self, at: Address) -> None:
        """Serve.

        Raises:
            OSError: it is taken, or may not be; nothing is served.
        """
        application = web.Application()
        application.router.add_get(PATH, self._answer, allow_head=False)
        runner = web.AppRunner(
            application, access_log=None, logger=_silent(), shutdown_timeout=SHUTDOWN_TIMEOUT_S
        )
        await runner.setup()
        server = runner.server
        assert server is not None, "it is set up"

        loop = asyncio.get_running_loop()

        def protocol() -> asyncio.Protocol:
            if len(server.connections) >= CONNECTIONS_MAX:
                return _Refused()
            handler = server()
            loop.call_later(CONNECTION_S_MAX, _abort, handler)
            return handler

        with contextlib.ExitStack() as undo:
            end = undo.enter_context(socket.socket(at.family, socket.SOCK_STREAM))
            end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                end.bind((at.host, at.port))
                self._server = await loop.create_server(protocol, sock=end)
            except OSError:
                await runner.cleanup()
                raise
            undo.pop_all()
        self._runner = runner

    async def stop(self) -> None:
        """Close it, and its connections."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, _: web.Request) -> web.Response:
        now = time.monotonic()
        if now - self._rendered_at >= FRESH_S:
            self._text, self._rendered_at = self._render().encode(), now
        return web.Response(body=self._text, headers={"Content-Type": CONTENT_TYPE})


def write(path: Path, text: str) -> None:
    """Replace a file at once, so that a reader sees the old text or the new one, whole.

    It is not synced: after a power cut it is written anew.

    Raises:
        OSError: it is as it was.
    """
    new = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    with _removed_on_failure(new):
        with open(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, FILE_MODE)  # Whatever the umask: node_exporter is another user.
            file.write(text)
        new.replace(path)


@contextlib.contextmanager
def _removed_on_failure(path: Path) -> Generator[None]:
    try:
        yield
    except OSError:
        with contextlib.suppress(OSError):
            path.unlink()
        raise


class Exposed:
    """Port and text file as they are configured; `run` until it is cancelled."""

    def __init__(
        self, section: MetricsSection, render: Callable[[], str], tell: Tell, logger: Logger
    ) -> None:
        self._section = section
        self._render = render
        self._tell = tell
        self._logger = logger
        self._port = Port(render)
        self._served: Address | None = None
        self._changed = asyncio.Event()
        self._writing: asyncio.Future[OSError | None] | None = None
        self._written = ""
        """The text file that is there."""
        self._is_failing = False

    def configure(self, section: MetricsSection) -> None:
        """Go on with another configuration."""
        if section != self._section:
            self._section = section
            self._changed.set()

    async def run(self) -> None:
        """Serve and write until cancelled; then both are gone."""
        try:
            while True:
                await self._once()
                section = self._section
                pause_s = section.textfile_interval_ms / 1000 if section.textfile else None
                if self._port.open is not bool(section.listen):
                    pause_s = min(pause_s or AGAIN_S, AGAIN_S)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), pause_s)
                self._changed.clear()
        finally:
            await self._port.stop()
            await self._withdraw_file()

    async def _once(self) -> None:
        try:
            await self._serve()
            await self._write()
        except Exception:  # A measurement that fails must not end the daemon.
            if not self._is_failing:
                self._logger.exception("metrics_not_exposed")
            self._is_failing = True
        else:
            self._is_failing = False

    async def _serve(self) -> None:
        wanted = address(self._section.listen)
        if wanted == self._served and self._port.open is bool(wanted):
            return
        await self._port.stop()
        self._served = wanted
        what = next_step = ""
        if wanted is not None:
            try:
                await self._port.start(wanted)
                self._logger.info("metrics_served", address=wanted.host, port=wanted.port)
            except OSError as error:
                what = f"cannot serve metrics at {self._section.listen}: {error.strerror or error}"
                next_step = "free the port, or set metrics.listen to another one, and reload"
        self._tell(PORT_REASON, what, next_step, time.time())

    async def _write(self) -> None:
        path, what, next_step = self._section.textfile, "", ""
        if self._written not in ("", path):
            await self._withdraw_file()
        if path:
            error = await self._attempt(Path(path))
            if error is not None:
                what = f"cannot write {path}: {error.strerror or error}"
                next_step = (
                    "make the directory writable for the daemon's user, and under systemd"
                    f" permitted: ReadWritePaths={Path(path).parent} in a drop-in"
                )
        self._tell(TEXTFILE_REASON, what, next_step, time.time())

    async def _attempt(self, path: Path) -> OSError | None:
        """Write the file once; a disk that hangs keeps a thread, and never the daemon."""
        if self._writing is None:
            self._written = str(path)
            self._writing = _in_thread(path, self._render())
        await asyncio.wait({self._writing}, timeout=WRITE_TIMEOUT_S)
        if not self._writing.done():
            return TimeoutError(f"the disk has not answered for {WRITE_TIMEOUT_S:g} s")
        error, self._writing = self._writing.result(), None
        return error

    async def _withdraw_file(self) -> None:
        """Remove the text file: old metrics are worse than none. One that hangs is left alone."""
        if self._writing is not None:
            await asyncio.wait({self._writing}, timeout=SHUTDOWN_TIMEOUT_S)
        if self._written and (self._writing is None or self._writing.done()):
            _remove(self._written)
        self._written = ""


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _in_thread(path: Path, text: str) -> "asyncio.Future[OSError | None]":
    """Write in a thread that nobody waits for at the end; what went wrong is the result."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[OSError | None] = loop.create_future()

    def tell(error: OSError | None) -> None:
        if not done.done():
            done.set_result(error)

    def work() -> None:
        error: OSError | None = None
        try:
            write(path, text)
        except OSError as found:
            error = found
        with contextlib.suppress(RuntimeError):  # The loop has ended meanwhile.
            loop.call_soon_threadsafe(tell, error)

    threading.Thread(target=work, name="metrics-textfile", daemon=True).start()
    return done
