"""Signals that end `certeus pipe`: the first ends the reading, a second one the waiting, too."""

import os
import select
import signal
import time
from types import FrameType
from typing import Self

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Ended(Exception):
    """It was told to end, and the time for settling is over."""


class Stop:
    """Whether it was told to end; waits are cut short by that."""

    def __init__(self, grace_s: float) -> None:
        """Make one; `grace_s` is how long what was read may take to settle after a signal."""
        self._grace_s = grace_s
        self._count = 0
        self._since = 0.0

    def __enter__(self) -> Self:
        self._woken, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._before_wake = signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        # What was told to be ignored (nohup) is.
        self._before = {
            one: handler
            for one in ENDING
            if (handler := signal.getsignal(one)) is not signal.SIG_IGN
        }
        for one in self._before:
            signal.signal(one, self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)
        signal.set_wakeup_fd(self._before_wake)
        os.close(self._woken)
        os.close(self._wake)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self.ask()

    def ask(self) -> None:
        """Do as a signal would."""
        if not self._count:
            self._since = time.monotonic()
        self._count += 1

    @property
    def asked(self) -> bool:
        """Whether to read no more."""
        return self._count > 0

    def check(self) -> None:
        """Raise Ended once nothing may be waited for any longer."""
        if self._count > 1 or (self._count and time.monotonic() - self._since >= self._grace_s):
            raise Ended

    def wait(self, seconds: float, file: int | None = None) -> bool:
        """Wait until `file` can be read, or a signal came; return whether it can."""
        poller = select.poll()
        if not self.asked:
            poller.register(self._woken, select.POLLIN)
        if file is not None:
            poller.register(file, select.POLLIN)
        ready = {descriptor for descriptor, _ in poller.poll(seconds * 1000)}
        return file in ready
