"""Accepting: the peer is looked at before anything is made for its connection.

uvloop's own servers make a protocol before they know the peer, and close the listening socket for
good at some errors of `accept`; this one waits a moment and goes on. What is listened on is the
supervisor's (or systemd's): while no process of ours accepts, who connects waits in its backlog.
"""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable

from certeusd.api.connections import Connection
from certeusd.logs import Logger

BATCH = 64
"""So many at a time; then the loop looks at who is connected already."""
PAUSE_S = 0.25
"""Where there are no descriptors: somebody must close first."""
SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

Admit = Callable[[socket.socket], Connection | None]
"""Who is there gets a protocol; None: closed at once."""


class Acceptor:
    """Accepts at one listening socket, which is not blocking and stays its owner's."""

    def __init__(self, listener: socket.socket, admit: Admit, logger: Logger) -> None:
        self._listener = listener
        self._admit = admit
        self._logger = logger
        self._loop = asyncio.get_running_loop()
        self._again: asyncio.TimerHandle | None = None
        self._is_short = False
        self._attaching: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Accept from now on."""
        self._again = None
        self._loop.add_reader(self._listener.fileno(), self._ready)

    def stop(self) -> None:
        """Accept no more."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        self._loop.remove_reader(self._listener.fileno())

    def _ready(self) -> None:
        for _ in range(BATCH):
            try:
                end, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in SHORT:
                    self._pause(error)
                    return
                continue  # It has gone while it waited.
            self._is_short = False
            self._take(end)

    def _pause(self, error: OSError) -> None:
        if not self._is_short:
            self._is_short = True
            self._logger.warning("api_cannot_accept", error=error.strerror)
        self._loop.remove_reader(self._listener.fileno())
        self._again = self._loop.call_later(PAUSE_S, self.start)

    def _take(self, end: socket.socket) -> None:
        with contextlib.ExitStack() as undo:
            undo.callback(end.close)
            end.setblocking(False)
            try:
                connection = self._admit(end)
            except OSError:
                return
            if connection is None:
                return
            undo.pop_all()
        task = self._loop.create_task(self._attach(end, connection))
        self._attaching.add(task)
        task.add_done_callback(self._attaching.discard)

    async def _attach(self, end: socket.socket, connection: Connection) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: connection, end)
        except OSError as error:
            end.close()
            connection.connection_lost(error)
