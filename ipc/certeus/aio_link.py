"""`AsyncLink`: one producer's session in an event loop.

The session socket is the bell and is read by the loop's own poller; no thread takes part but for
the hello of a reconnect, which may have to wait for a recovering daemon. That thread is its own:
the loop's pool is small, and many links that wait there would keep all others waiting.
"""

import asyncio
import os
import socket as sockets
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import NamedTuple, TypeVar

from certeus.backoff import Backoff
from certeus.core import Core
from certeus.session import (
    BELL,
    GOODBYE,
    HELLO_TIMEOUT_S,
    MESSAGE_BYTES_MAX,
    LostError,
    RefusedError,
    dial,
    ended_reason,
)

_T = TypeVar("_T")


class _Waiter(NamedTuple):
    future: "asyncio.Future[None]"
    ticket: int | None
    """None: waits for room."""


class AsyncLink:
    """The session of one producer, and whoever waits for it. Made in its loop."""

    def __init__(self, core: Core, sock: sockets.socket) -> None:
        self.core = core
        self._loop = asyncio.get_running_loop()
        self._socket: sockets.socket | None = None
        self._waiters: list[_Waiter] = []
        self._stopped = False
        self._stop_dialling = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._backoff = Backoff()
        self._reconnecting: asyncio.Task[None] | None = None
        self._attach(sock)
        _links.add(self)

    async def stop(self, *, goodbye: bool) -> None:
        """End the session; with a goodbye when everything is settled."""
        self._stopped = True
        self.core.ring.disarm()
        if self._socket is not None and goodbye:
            with suppress(OSError):  # the daemon sees the end of the session instead
                self._socket.send(GOODBYE)
        self._detach()
        self.core.connected = False
        os.eventfd_write(self._stop_dialling, 1)
        if self._reconnecting is not None:
            # It ends by itself: what it sleeps on is cancelled, what it dials is stopped.
            self._reconnecting.cancel()
            await asyncio.gather(self._reconnecting, return_exceptions=True)
        os.close(self._stop_dialling)

    def forked(self) -> None:
        """In a child: leave the session to the parent, and the loop's poller as it is."""
        self.core.ring.retire()
        if not self._stopped:
            self._stopped = True
            os.close(self._stop_dialling)
            if self._socket is not None:
                self._socket.close()
                self._socket = None

    # --- waiting ---------------------------------------------------------------------------------

    async def wait(
        self,
        done: Callable[[], int],
        timeout: float | None,
        *,
        give_up: Callable[[], Exception],
        ticket: int | None = None,
        closing: bool = False,
    ) -> int:
        """Wait until `done()` is true, which is asked after each drain."""
        check = self.core.check_session if closing else self.core.check
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            self.drain()
            check()
            value = done()
            if value:
                return value
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise give_up()
            waiter = _Waiter(self._loop.create_future(), ticket)
            self._waiters.append(waiter)
            try:
                if self._socket is None or not self._arm():
                    await asyncio.wait([waiter.future], timeout=left)
            finally:
                self._waiters.remove(waiter)

    def drain(self) -> None:
        """Take the verdicts that are out."""
        core = self.core
        try:
            core.drain()
        except LostError as error:
            self._lost(str(error))
        for waiter in self._waiters:
            if waiter.ticket is not None and waiter.ticket <= core.receipts.settled:
                _wake(waiter)

    def _arm(self) -> bool:
        """Ask for the bell for all that wait. True: something is reached already, look again."""
        ring = self.core.ring
        waiting = [waiter for waiter in self._waiters if not waiter.future.done()]
        tickets = [waiter.ticket for waiter in waiting if waiter.ticket is not None]
        reached = bool(tickets) and ring.arm_settled(min(tickets))
        if any(waiter.ticket is None for waiter in waiting) and ring.arm_room():
            self._wake_room()
            reached = True
        return reached

    def _wake_room(self) -> None:
        for waiter in self._waiters:
            if waiter.ticket is None:
                _wake(waiter)

    def _wake_all(self) -> None:
        for waiter in self._waiters:
            _wake(waiter)

    # --- the session -----------------------------------------------------------------------------

    def _attach(self, sock: sockets.socket) -> None:
        self._socket = sock
        self._backoff.connected(self.core.receipts.settled)
        self._loop.add_reader(sock.fileno(), self._readable, sock)

    def _detach(self) -> None:
        sock, self._socket = self._socket, None
        if sock is not None:
            self._loop.remove_reader(sock.fileno())
            sock.close()

    def _readable(self, sock: sockets.socket) -> None:
        """Read everything that the daemon has sent."""
        while self._socket is sock:
            try:
                packet = sock.recv(MESSAGE_BYTES_MAX)
            except BlockingIOError:
                break
            except OSError as error:
                self._lost(error.strerror or str(error))
                return
            if packet != BELL:
                self._lost(ended_reason(packet) if packet else "the daemon closed the session")
                return
        self.drain()
        self._wake_room()
        # Those that still wait want the bell at their own position. Room is asked for by its own
        # waiter, once it has looked.
        while self._socket is not None and self._arm_tickets():
            self.drain()

    def _arm_tickets(self) -> bool:
        waiting = [
            waiter.ticket
            for waiter in self._waiters
            if waiter.ticket is not None and not waiter.future.done()
        ]
        return bool(waiting) and self.core.ring.arm_settled(min(waiting))

    def _lost(self, why: str) -> None:
        if self._socket is None:
            return
        self._detach()
        self.core.lost(why)
        if not self._stopped:
            self._reconnecting = self._loop.create_task(self._reconnect())

    async def _reconnect(self) -> None:
        core = self.core
        while not self._stopped and not core.ended and self._socket is None:
            delay_s = self._backoff.lost(core.receipts.settled)
            if delay_s > 0:
                await asyncio.sleep(delay_s)
                continue
            hello = core.resume_hello()
            attempt = in_thread(
                partial(dial, core.path, hello, HELLO_TIMEOUT_S, self._stop_dialling)
            )
            try:
                # Shielded: a thread cannot be cancelled, and its descriptors must be closed.
                welcome = await asyncio.shield(attempt)
            except asyncio.CancelledError:
                (result,) = await asyncio.gather(attempt, return_exceptions=True)
                if not isinstance(result, BaseException):
                    result.close_descriptors()
                    result.socket.close()
                raise
            except RefusedError as refusal:
                core.refused(refusal)
                continue
            except LostError as error:
                core.last_loss = str(error)
                continue
            try:
                core.adopt(welcome)
            except (LostError, OSError) as error:
                welcome.socket.close()
                core.last_loss = str(error)
                continue
            self._attach(welcome.socket)
        self._wake_all()


def in_thread(work: Callable[[], _T]) -> "asyncio.Future[_T]":
    """Run what may wait for long in a thread of its own."""
    done = Future[_T]()
    done.set_running_or_notify_cancel()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # It is the awaiter's, whatever it is.
            done.set_exception(error)

    threading.Thread(target=run, name="certeus-dial", daemon=True).start()
    return asyncio.wrap_future(done)


def _wake(waiter: _Waiter) -> None:
    if not waiter.future.done():
        waiter.future.set_result(None)


_links: "weakref.WeakSet[AsyncLink]" = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for link in list(_links):
        link.forked()


os.register_at_fork(after_in_child=_after_fork_in_child)
