"""The worker's outer loop: the kernel runs, and comes back for what happens once a session."""

import os
import time
from collections.abc import Callable
from typing import Protocol

from certeusd import logs
from certeusd.channel import (
    AskSessions,
    Attach,
    Channel,
    Detach,
    Drain,
    HandOver,
    Level,
    Progress,
    Ready,
    Share,
)
from certeusd.logs import Logger
from certeusd.preparation import Preparation
from certeusd.worker import census
from certeusd.worker.clients import Clients
from certeusd.worker.kernel import Event, Kernel
from certeusd.worker.ledger import is_over_share

TICK_S = 1.0
STRICT_S = 5.0
"""For so long after a change of their number clients are taken by whoever has fewest."""


class Others(Protocol):
    """What the board says of the other workers."""

    def sessions(self) -> list[tuple[int, float]]:
        """Sessions, and seconds since the last sign of life, of each."""
        ...

    def share(self, workers: int) -> None:
        """Look at so many workers from now on."""


class Service:
    """One worker, from Ready to its last session."""

    def __init__(
        self,
        kernel: Kernel,
        clients: Clients,
        channel: Channel,
        others: Others,
        *,
        index: int,
        drain_timeout_ms: int,
        logger: Logger,
        preparation: Preparation,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kernel = kernel
        self._clients = clients
        self._channel = channel
        self._others = others
        self._index = index
        self._drain_timeout_s = drain_timeout_ms / 1000
        self._logger = logger
        self._preparation = preparation
        self._clock = clock
        self._drain_deadline: float | None = None
        self._strict_until = 0.0
        self._supervised = True
        self._served = False

    def run(self) -> int:
        """Serve until the supervisor says drain, or is gone. Returns the exit code."""
        self._kernel.watch(self._channel.fileno())
        self._clients.accept_clients(True)
        self._channel.send(Ready())
        while self._supervised and not self._is_drained():
            for event in self._kernel.run(self._timeout_ms()):
                self._on_event(event)
            self._clients.end_round()
            self._preparation.tell()
            if self._drain_deadline is None:
                self._clients.accept_clients(not self._is_over_share())
        self._clients.end_all()
        return 0

    def _is_over_share(self) -> bool:
        strict = self._clock() < self._strict_until
        return is_over_share(self._clients.sessions, self._others.sessions(), strict=strict)

    def _timeout_ms(self) -> int:
        now = self._clock()
        deadlines = (self._clients.next_deadline(), self._drain_deadline, now + TICK_S)
        first = min(deadline for deadline in deadlines if deadline is not None)
        return max(0, int((first - now) * 1000) + 1)

    def _is_drained(self) -> bool:
        if self._drain_deadline is None:
            return False
        if self._kernel.session_count() == 0:
            self._logger.info("worker_drained", in_flight=0)
            return True
        if self._clock() >= self._drain_deadline:
            in_flight = self._kernel.in_flight()
            self._logger.warning("worker_drain_timed_out", in_flight=in_flight)
            return True
        return False

    def _on_event(self, event: Event) -> None:
        match event:
            case ("readable", int(fd)):
                if fd == self._channel.fileno():
                    self._on_message()
                else:
                    self._clients.on_readable(fd)
            case ("welcomed", int(slot), int(birth_seq), int(high), bytes(uuid), int(number)):
                self._clients.on_welcomed(slot, birth_seq, high, uuid, number)
                if not self._served:
                    self._served = True
                    self._channel.send(Progress())
            case ("refused", int(slot), str(reason)):
                self._clients.on_refused(slot, reason)
            case ("ended", int(slot), str(reason)):
                self._clients.on_ended(slot, reason)
            case ("closed", int(slot)):
                self._clients.on_closed(slot)
            case _:
                raise AssertionError(f"an event that the kernel does not have: {event!r}")

    def _on_message(self) -> None:
        received = self._channel.receive()
        if received is None:
            self._supervised = False
            return
        message, descriptors = received
        try:
            match message:
                case Attach() if message.worker == self._index:
                    pair, forward_bell, return_bell = descriptors
                    self._kernel.attach(
                        pair, message.forward_bytes, message.return_bytes,
                        forward_bell, return_bell,
                    )  # fmt: skip
                    self._logger.info("log_writer_attached")
                case Detach() if message.worker == self._index:
                    self._kernel.detach()
                    self._logger.warning("log_writer_detached")
                case AskSessions():
                    self._channel.send(census.page(self._kernel, self._clients, message))
                case Share():
                    self._strict_until = self._clock() + STRICT_S
                    self._others.share(message.workers)
                    self._share(message.workers)
                case HandOver():
                    self._hand_over()
                case Drain():
                    self._drain()
                case Level():
                    logs.set_level(message.level)
                case _:
                    raise AssertionError(f"a message that is not for a worker: {message!r}")
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _share(self, workers: int) -> None:
        above = self._clients.share(workers, self._index)
        if above and self._drain_deadline is None:
            self._clients.accept_clients(not self._is_over_share())
            self._kernel.let_go(above)
            self._logger.info("sessions_above_limits_let_go", sessions=len(above))

    def _hand_over(self) -> None:
        if self._drain_deadline is not None:
            return  # All of them go.
        self._clients.accept_clients(not self._is_over_share())
        sessions = self._kernel.hand_over()
        self._logger.info("sessions_handed_over", sessions=sessions)

    def _drain(self) -> None:
        self._drain_deadline = self._clock() + self._drain_timeout_s
        self._clients.accept_clients(False)
        self._clients.refuse_unconfirmed()
        self._kernel.drain()
