"""A user with more connections than anybody should have, each doing nothing that is of use."""

import contextlib
import os
import resource
import select
import selectors
import signal
import socket
from collections.abc import Generator
from pathlib import Path

from support.waiting import wait_until

_HEAD = b"POST /v1/ledger/events?type=t&source=crowd HTTP/1.1\r\nHost: x\r\n"
_LINES = _HEAD + b"Content-Type: application/x-ndjson\r\nContent-Length: 100000\r\n\r\n"
_ONE = _HEAD + b"Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n"
BEGINNINGS = (b"", b"GET /v1/led", _HEAD + b"A: ", _LINES + b"{}\n{}\n{", _ONE + b"[" * 50_000)
"""Idle, half a request line, half headers, half bodies."""
ROUNDS_PAUSE_S = 0.01
A_ROUND = 200
"""Connections that one round begins: a crowd, and not only a flood of `connect`."""


class _Crowd:
    def __init__(self, path: str, count: int, told: int) -> None:
        self._path = path
        self._count = count
        self._told = told
        self._selector = selectors.DefaultSelector()
        self._held = 0
        self._begun = 0

    def live(self) -> None:
        """Keep as many connections as it gets; each that is closed is begun again."""
        while True:
            for _ in range(min(A_ROUND, self._count - self._held)):
                if not self._begin():
                    break
            for key, _ in self._selector.select(ROUNDS_PAUSE_S):
                self._end(key.fileobj)
            os.write(self._told, b"%d %d\n" % (self._begun, self._held))

    def _begin(self) -> bool:
        end = socket.socket(socket.AF_UNIX)
        end.setblocking(False)
        try:
            end.connect(self._path)
            self._begun += 1
            end.send(BEGINNINGS[self._begun % len(BEGINNINGS)])
        except OSError:
            end.close()
            return False
        self._selector.register(end, selectors.EVENT_READ)
        self._held += 1
        return True

    def _end(self, end: object) -> None:
        assert isinstance(end, socket.socket)
        with contextlib.suppress(OSError):
            if end.recv(65536):
                return
        self._selector.unregister(end)
        self._held -= 1
        end.close()


@contextlib.contextmanager
def crowd(path: Path, uid: int, count: int) -> Generator[None]:
    """A process of this user with up to `count` connections, from when it has tried as many."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            _Crowd(str(path), min(count, hard - 100), writer).live()
        finally:
            os._exit(1)
    os.close(writer)
    os.set_blocking(reader, False)
    told = [b""]

    def begun() -> bool:
        assert select.select([reader], [], [], 30)[0], "the crowd says nothing"
        told[0] = os.read(reader, 65536) or told[0]
        assert told[0], "the crowd has ended"
        return int(told[0].splitlines()[-1].split()[0]) >= count

    try:
        wait_until(f"{count} connections that were tried", begun, 60)
        yield
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reader)
