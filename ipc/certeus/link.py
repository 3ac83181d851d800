"""`Link`: one producer's session for threads: who waits, who reconnects.

Who waits? Any number of threads. One of them, the *leader*, polls the session socket, which is the
daemon's bell and tells its death; the others wait on a condition and are told by the leader, so
that each bell is read once. The lock is never held while polling. Waits are sliced to 100 ms, which
bounds how long a signal or a lost race can hold anybody up.

Who reconnects? The *keeper*, a daemon thread that sleeps until the socket is hung up (it asks poll
for nothing else, so no bell wakes it). Without it, what an idle process had appended before the
daemon died would stay in its ring until the next call.
"""

import os
import select
import socket as sockets
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress

from certeus.backoff import Backoff
from certeus.core import Core
from certeus.session import (
    BELL,
    GOODBYE,
    HELLO_TIMEOUT_S,
    MESSAGE_BYTES_MAX,
    LostError,
    RefusedError,
    Welcome,
    dial,
    ended_reason,
)

SLICE_S = 0.1


class Link:
    """The session of one producer, and whoever waits for it."""

    def __init__(self, core: Core, sock: sockets.socket) -> None:
        self.core = core
        self.lock = threading.RLock()
        self.stopped = False
        self._changed = threading.Condition(self.lock)
        self._socket: sockets.socket | None = sock
        self._polling = False
        self._wanted: list[int] = []
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._keeper = threading.Thread(
            target=_keep, args=(weakref.ref(self), self._wake), name="certeus-keeper", daemon=True
        )
        self._keeper.start()
        _links.add(self)

    def stop(self, *, goodbye: bool) -> None:
        """End the session and the keeper; with a goodbye when everything is settled."""
        with self.lock:
            if self.stopped:
                return
            self.stopped = True
            self.core.ring.disarm()
            sock, self._socket = self._socket, None
            self.core.connected = False
            if sock is not None:
                if goodbye:
                    with suppress(OSError):  # the daemon sees the end of the session instead
                        sock.send(GOODBYE)
                sock.close()
            os.eventfd_write(self._wake, 1)
            self._changed.notify_all()
        if threading.current_thread() is not self._keeper:
            self._keeper.join()

    def __del__(self) -> None:
        if not getattr(self, "stopped", True) and not self.core.ring.forked:
            # Without a goodbye: the daemon reads what was committed, then ends the session.
            with self.lock:
                self.stopped = True
                if self._socket is not None:
                    self._socket.close()
                os.eventfd_write(self._wake, 1)

    def forked(self) -> None:
        """In a child: leave the session to the parent. No lock may be waited for here."""
        self.core.ring.retire()
        if not self.stopped:
            self.stopped = True
            os.close(self._wake)
            if self._socket is not None:
                self._socket.close()
                self._socket = None
        self.lock = threading.RLock()
        self._changed = threading.Condition(self.lock)

    # --- waiting ---------------------------------------------------------------------------------

    def wait(
        self,
        done: Callable[[], int],
        timeout: float | None,
        *,
        give_up: Callable[[], Exception],
        ticket: int | None = None,
        room: bool = False,
        closing: bool = False,
    ) -> int:
        """Wait until `done()` is true, which is asked under the lock after each drain."""
        core = self.core
        check = core.check_session if closing else core.check
        deadline = None if timeout is None else time.monotonic() + timeout
        with self.lock:
            if ticket is not None:
                self._wanted.append(ticket)
            try:
                while True:
                    self.drain()
                    check()
                    value = done()
                    if value:
                        return value
                    left = SLICE_S
                    if deadline is not None:
                        left = min(deadline - time.monotonic(), SLICE_S)
                        if left <= 0:
                            raise give_up()
                    if self._socket is None or not self._arm(room=room):
                        self._wait(left)
            finally:
                if ticket is not None and ticket in self._wanted:
                    self._wanted.remove(ticket)
                self._changed.notify_all()

    def drain(self) -> None:
        """Take the verdicts that are out. The lock is held."""
        core = self.core
        try:
            core.drain()
        except LostError as error:
            self._lost(str(error))
        settled = core.receipts.settled
        if self._wanted and min(self._wanted) <= settled:
            self._wanted = [ticket for ticket in self._wanted if ticket > settled]

    def _arm(self, *, room: bool) -> bool:
        """Ask for the bell. True: something is reached already, look again."""
        ring = self.core.ring
        if self._wanted and ring.arm_settled(min(self._wanted)):
            return True
        return room and ring.arm_room()

    def _wait(self, seconds: float) -> None:
        """Wait for the bell, or for the leader, or for a new session. The lock is held."""
        sock = self._socket
        if sock is None or self._polling:
            self._changed.wait(seconds)
            return
        poller = select.poll()
        poller.register(sock, select.POLLIN)
        self._polling = True
        try:
            self.lock.release()
            poller.poll(seconds * 1000)
        finally:
            self.lock.acquire()
            self._polling = False
        if self._socket is sock:
            self._read(sock)
        self._changed.notify_all()

    def _read(self, sock: sockets.socket) -> None:
        """Read everything that the daemon has sent. The lock is held."""
        while True:
            try:
                packet = sock.recv(MESSAGE_BYTES_MAX)
            except BlockingIOError:
                return
            except OSError as error:
                self._lost(error.strerror or str(error))
                return
            if packet == BELL:
                continue
            self._lost(ended_reason(packet) if packet else "the daemon closed the session")
            return

    def _lost(self, why: str) -> None:
        """End the session: the keeper connects again. The lock is held."""
        sock, self._socket = self._socket, None
        if sock is not None:
            self.core.lost(why)
            sock.close()
            os.eventfd_write(self._wake, 1)

    # --- the keeper ------------------------------------------------------------------------------

    def tend(self, backoff: Backoff, *, hung_up: bool) -> tuple[int | None, float | None]:
        """Look at the session once; the descriptor to watch, and the seconds to the next look."""
        core = self.core
        with self.lock:
            if hung_up and self._socket is not None:
                self._read(self._socket)
            if self.stopped or core.ended:
                return None, None
            if self._socket is not None:
                return self._socket.fileno(), None
            delay_s = backoff.lost(core.receipts.settled)
            if delay_s > 0:
                return None, delay_s
            hello = core.resume_hello()
            # While there is no socket only `stop` writes it, and then under this lock.
            with suppress(BlockingIOError):
                os.eventfd_read(self._wake)
        try:
            welcome = dial(core.path, hello, HELLO_TIMEOUT_S, self._wake)
        except RefusedError as refusal:
            with self.lock:
                core.refused(refusal)
                self._changed.notify_all()
        except LostError as error:
            core.last_loss = str(error)
        else:
            self._adopt(welcome, backoff)
        return self.tend(backoff, hung_up=False)

    def _adopt(self, welcome: Welcome, backoff: Backoff) -> None:
        with self.lock:
            try:
                if self.stopped:
                    welcome.close_descriptors()
                    raise LostError("the producer was stopped")
                self.core.adopt(welcome)
            except (LostError, OSError) as error:
                welcome.socket.close()
                self.core.last_loss = str(error)
                return
            self._socket = welcome.socket
            backoff.connected(self.core.receipts.settled)
            self._changed.notify_all()


def _keep(reference: "weakref.ref[Link]", wake: int) -> None:
    """Keep one producer connected; hold no link while asleep, so that it can be collected."""
    backoff = Backoff()
    hung_up = False
    watched: int | None
    delay_s: float | None
    while True:
        link = reference()
        if link is None:
            break
        # Under the lock, `stop` has done all that it does with `wake` when it is seen.
        with link.lock:
            stopped = link.stopped
        if stopped:
            break
        watched, delay_s = link.tend(backoff, hung_up=hung_up)
        del link
        poller = select.poll()
        poller.register(wake, select.POLLIN)
        if watched is not None:
            poller.register(watched, 0)
        ready = dict(poller.poll(None if delay_s is None else delay_s * 1000))
        if wake in ready:
            with suppress(BlockingIOError):
                os.eventfd_read(wake)
        hung_up = watched in ready
    os.close(wake)


_links: "weakref.WeakSet[Link]" = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for link in list(_links):
        link.forked()


os.register_at_fork(after_in_child=_after_fork_in_child)
