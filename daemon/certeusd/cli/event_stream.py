"""The client of `GET /v1/ledger/events` as it goes on: a stream that resumes, by select alone.

```text
connect ──▶ request (HTTP/1.0: no chunks) ──▶ blocks, each with its id ──┐
   ▲──── 0.1 s to 1 s later, Last-Event-ID ── the stream ended or is silent ◀┘
```

A block counts when it is whole, so what a broken stream left of one is asked for again, and nothing
is told twice. Nothing is read ahead of who takes: who is slow makes the api wait, and no more.
"""

import select
import socket
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode

import msgspec

from certeusd.exits import Exit, ExitError

PATH = "/v1/ledger/events"
CONNECT_TIMEOUT_S = 10.0
SILENT_S = 45.0
"""The api says something every 15 s."""
AGAIN_S_MIN, AGAIN_S_MAX = 0.1, 1.0
HEAD_BYTES_MAX = 64 * 1024
READ_BYTES = 256 * 1024
_EXITS = {
    400: Exit.USAGE, 401: Exit.NOT_ALLOWED, 403: Exit.NOT_ALLOWED, 404: Exit.FAILED,
    405: Exit.FAILED, 503: Exit.TRY_AGAIN,
}  # fmt: skip
FOR_GOOD = (Exit.USAGE, Exit.NOT_ALLOWED, Exit.FAILED)
"""What waiting does not mend."""


class Block(NamedTuple):
    """One server-sent event."""

    kind: str
    """Empty: an event of the ledger; `gap`."""
    data: bytes
    """Empty: only the number went on."""


class AwayError(Exception):
    """There is no stream now; trying again may help."""


class EventStream:
    """Events behind a number, over as many connections as it takes.

    Args:
        path: of the api's socket.
        query: as the route has it; `after_seq` only holds at first.
        tell: for whoever looks, when it is away and there again.
        forever: come again when the stream ends; else raise `ExitError`.
    """

    def __init__(
        self, path: Path, query: Mapping[str, str], tell: Callable[[str], None], *, forever: bool
    ) -> None:
        self._path = path
        self._query = dict(query)
        self._tell = tell
        self._forever = forever
        self.last_id: str | None = None

    def blocks(self, wait_s: Callable[[], float | None]) -> Generator[Block | None]:
        """Yield what comes, and `None` where nothing came for as long as `wait_s` says.

        Raises:
            ExitError: it cannot be followed: at first, or for good.
        """
        pause_s, known = AGAIN_S_MIN, False
        while True:
            try:
                end, rest = self._opened()
                with end:
                    if known:
                        self._tell(f"the api is there again; going on behind {self.last_id}")
                    known, pause_s = True, AGAIN_S_MIN
                    yield from self._read(end, rest, wait_s)
            except AwayError as error:
                if not (known and self._forever):
                    raise ExitError(Exit.UNREACHABLE, f"{error}") from error
                if pause_s == AGAIN_S_MIN:
                    self._tell(f"{error}; trying again")
            except ExitError as error:
                if not (known and self._forever) or error.code in FOR_GOOD:
                    raise
            yield from self._paused(pause_s, wait_s)
            pause_s = min(2 * pause_s, AGAIN_S_MAX)

    def _paused(self, seconds: float, wait_s: Callable[[], float | None]) -> Iterator[None]:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            wanted = wait_s()
            time.sleep(left if wanted is None else min(left, max(wanted, 0.0)))
            if wanted is not None:
                yield None

    # --- one connection --------------------------------------------------------------------------

    def _opened(self) -> tuple[socket.socket, bytes]:
        end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            end.settimeout(CONNECT_TIMEOUT_S)
            end.connect(str(self._path))
            end.sendall(self._request())
            end.settimeout(SILENT_S)
            return end, self._answered(end)
        except PermissionError as error:
            end.close()
            raise ExitError(
                Exit.NOT_ALLOWED,
                f"cannot open {self._path}: not allowed; have your user or group named in [api]",
            ) from error
        except OSError as error:
            end.close()
            raise AwayError(
                f"cannot reach the api at {self._path}: {error.strerror or error}; is certeusd"
                " running, with [api] enabled, and with this --runtime-dir?"
            ) from error
        except BaseException:
            end.close()
            raise

    def _request(self) -> bytes:
        query = {name: value for name, value in self._query.items()
                 if name != "after_seq" or self.last_id is None}  # fmt: skip
        lines = [f"GET {PATH}?{urlencode(query)} HTTP/1.0", "Host: certeus",
                 "Accept: text/event-stream"]  # fmt: skip
        if self.last_id is not None:
            lines.append(f"Last-Event-ID: {self.last_id}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def _answered(self, end: socket.socket) -> bytes:
        """Read the head of the answer; return what came behind it."""
        head = b""
        while b"\r\n\r\n" not in head:
            part = end.recv(READ_BYTES)
            if not part or len(head) > HEAD_BYTES_MAX:
                raise AwayError("the api ended before it answered")
            head += part
        head, _, rest = head.partition(b"\r\n\r\n")
        status = int(head.split(None, 2)[1])
        if status != 200:
            while part := end.recv(READ_BYTES):
                rest += part
            raise ExitError(_EXITS.get(status, Exit.FAILED), _detail(rest))
        return rest

    def _read(
        self, end: socket.socket, rest: bytes, wait_s: Callable[[], float | None]
    ) -> Iterator[Block | None]:
        heard_at = time.monotonic()
        poll = select.poll()
        poll.register(end, select.POLLIN)
        while True:
            *whole, rest = rest.split(b"\n\n")
            for text in whole:
                block, last_id = parsed(text)
                if block is not None:
                    yield block
                self.last_id = last_id or self.last_id
            wanted = wait_s()
            silent_s = max(0.0, SILENT_S - (time.monotonic() - heard_at))
            if poll.poll(1000 * (silent_s if wanted is None else max(0.0, min(wanted, silent_s)))):
                try:
                    part = end.recv(READ_BYTES)
                except OSError as error:
                    raise AwayError(f"the api is away: {error.strerror}") from error
                if not part:
                    raise AwayError("the api ended the stream")
                rest, heard_at = rest + part, time.monotonic()
            elif not silent_s:  # Not while who takes the blocks took its time, and some are there.
                raise AwayError(f"the api has said nothing for {SILENT_S:.0f} s")
            elif wanted is not None:
                yield None


def parsed(text: bytes) -> tuple[Block | None, str | None]:
    """Read one block, and the number that it ends at; comments and others are none."""
    kind, data, last_id = "", b"", None
    for line in text.split(b"\n"):
        field, _, value = line.partition(b": ")
        match field:
            case b"data":
                data = value
            case b"event":
                kind = value.decode()
            case b"id":
                last_id = value.decode()
            case _:
                pass
    return (Block(kind, data) if data else None), last_id


def _detail(body: bytes) -> str:
    class Problem(msgspec.Struct):
        detail: str

    try:
        return msgspec.json.decode(body, type=Problem).detail
    except msgspec.DecodeError:
        return "the api's answer is none that this version knows; use the same version of both"
