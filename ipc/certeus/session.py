"""The session over the socket: who we are, what the daemon answers, its bell.

One JSON message a packet (`ipc/README.md`, "Session"). Nothing that the daemon sends is believed
before it is checked: what does not parse ends the session like a death of the daemon does.
"""

import errno
import json
import os
import select
import socket as sockets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

PROTOCOL = 1
MESSAGE_BYTES_MAX = 4096
BELL = b"\x01"
GOODBYE = b'{"goodbye":true}'
HELLO_TIMEOUT_S = 10.0
SOCKET_PATH_BYTES_MAX = 107

# A refusal that a later hello would meet again. The others pass.
FINAL_REASONS = frozenset(
    {
        "uid-not-allowed",
        "source-not-allowed",
        "source-changed",
        "version",
        "producer-expired",
        "malformed-hello",
    }
)


class RefusedError(Exception):
    """The daemon answered a hello with no."""

    def __init__(self, reason: str, what: str, next: str) -> None:
        super().__init__(f"{what} ({reason}); {next}" if next else f"{what} ({reason})")
        self.reason = reason


class LostError(Exception):
    """There is no daemon, or it spoke nonsense; another attempt may meet a better one."""


class CutError(LostError):
    """The daemon ended while it had our hello: the next one hears it."""


@dataclass(frozen=True, slots=True)
class Hello:
    """Who we are. With ``birth_seq`` it is a resume."""

    producer: str
    source: str
    ring_bytes: int
    birth_seq: int | None
    settled: int

    def encode(self) -> bytes:
        """Return the packet."""
        return json.dumps(
            {
                "certeus": PROTOCOL,
                "producer": self.producer,
                "source": self.source,
                "ring_bytes": self.ring_bytes,
                "birth_seq": self.birth_seq,
                "settled": self.settled,
                "pid": os.getpid(),
            },
            ensure_ascii=False,
        ).encode()


@dataclass(frozen=True, slots=True)
class Welcome:
    """The daemon's yes. Socket and descriptors are the receiver's to close."""

    socket: sockets.socket
    descriptors: tuple[int, int, int]
    """P, C, E."""
    session: int
    log_id: str
    birth_seq: int
    high: int
    producer_no: int
    event_bytes_max: int

    def close_descriptors(self) -> None:
        """Close them, once they are mapped."""
        for descriptor in self.descriptors:
            os.close(descriptor)


def default_path() -> str:
    """``$CERTEUS_SOCKET``, else the system's socket, else the one of a daemon run by hand."""
    given = os.environ.get("CERTEUS_SOCKET")
    if given:
        return given
    system = "/run/certeus/ingest.sock"
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    if not Path(system).exists():
        own = str(Path(runtime) / "certeus" / "ingest.sock")
        if Path(own).exists():
            return own
    return system


def dial(path: str, hello: Hello, timeout: float, stop: int | None = None) -> Welcome:
    """Says hello and waits for the answer.

    Args:
        path: The ingest socket.
        hello: Who we are.
        timeout: Seconds for everything.
        stop: A descriptor that becomes readable when the attempt is to end.

    Raises:
        LostError: nobody answered, or something else than the protocol has it.
        RefusedError: the daemon said no.
    """
    deadline = time.monotonic() + timeout
    sock = sockets.socket(sockets.AF_UNIX, sockets.SOCK_SEQPACKET | sockets.SOCK_CLOEXEC)
    try:
        sock.setblocking(False)
        _connect(sock, path, deadline, stop)
        sock.send(hello.encode())
        message, descriptors = _receive(sock, deadline, stop)
        try:
            return _welcome(sock, message, descriptors)
        except BaseException:
            _close(descriptors)
            raise
    except OSError as error:
        sock.close()
        kind = CutError if error.errno in (errno.ECONNRESET, errno.EPIPE) else LostError
        raise kind(f"{error.strerror or error} at {path}") from error
    except BaseException:
        sock.close()
        raise


def _connect(sock: sockets.socket, path: str, deadline: float, stop: int | None) -> None:
    if len(os.fsencode(path)) > SOCKET_PATH_BYTES_MAX:
        raise LostError(f"the path is longer than {SOCKET_PATH_BYTES_MAX} bytes: {path}")
    while True:
        try:
            sock.connect(path)
            return
        except BlockingIOError:  # the backlog is full; a Unix socket has no event for that
            _wait_readable(None, min(deadline, time.monotonic() + 0.01), deadline, stop)


def _receive(
    sock: sockets.socket, deadline: float, stop: int | None
) -> tuple[dict[str, object], list[int]]:
    packet, descriptors = BELL, list[int]()
    while packet == BELL:  # a bell may overtake the welcome
        _wait_readable(sock, deadline, deadline, stop)
        packet, descriptors, flags, _ = sockets.recv_fds(
            sock, MESSAGE_BYTES_MAX, 3, sockets.MSG_CMSG_CLOEXEC
        )
        if flags & sockets.MSG_CTRUNC:
            _close(descriptors)
            raise LostError(
                "the kernel kept back the session's descriptors (a security module, or the limit "
                "of open files)"
            )
    try:
        if not packet:
            raise CutError("the daemon closed the connection")
        return parse(packet), descriptors
    except BaseException:
        _close(descriptors)
        raise


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _wait_readable(
    sock: sockets.socket | None, until: float, deadline: float, stop: int | None
) -> None:
    poller = select.poll()
    for descriptor in (sock, stop):
        if descriptor is not None:
            poller.register(descriptor, select.POLLIN)
    while True:
        left = until - time.monotonic()
        ready = {descriptor for descriptor, _ in poller.poll(max(left, 0) * 1000)}
        if stop is not None and stop in ready:
            raise LostError("the attempt was stopped")
        if ready:
            return
        if time.monotonic() >= deadline:
            raise OSError(errno.ETIMEDOUT, "no answer in time")
        if time.monotonic() >= until:
            return


def parse(packet: bytes) -> dict[str, object]:
    """One message.

    Raises:
        LostError: it is none.
    """
    try:
        message: object = json.loads(packet)
    except (ValueError, RecursionError) as error:
        raise LostError("the daemon sent what is no message") from error
    if not isinstance(message, dict):
        raise LostError("the daemon sent what is no message")
    return cast("dict[str, object]", message)


def ended_reason(packet: bytes) -> str:
    """Why the daemon ended the session, for statistics."""
    try:
        message = parse(packet)
    except LostError as error:
        return str(error)
    reason = message.get("ended")
    return reason if isinstance(reason, str) else "the daemon sent what is no message"


def _welcome(sock: sockets.socket, message: dict[str, object], descriptors: list[int]) -> Welcome:
    if "refused" in message:
        raise RefusedError(
            _text(message, "refused"), _text(message, "what"), _text(message, "next")
        )
    if message.get("welcome") is not True or len(descriptors) != 3:
        raise LostError("the daemon answered a hello with something else than a welcome")
    p, c, e = descriptors
    return Welcome(
        socket=sock,
        descriptors=(p, c, e),
        session=_number(message, "session"),
        log_id=_text(message, "log_id"),
        birth_seq=_number(message, "birth_seq"),
        high=_number(message, "high"),
        producer_no=_number(message, "producer_no"),
        event_bytes_max=_number(message, "event_bytes_max"),
    )


def _text(message: dict[str, object], name: str) -> str:
    value = message.get(name)
    if not isinstance(value, str):
        raise LostError(f"the daemon's answer has no {name}")
    return value


def _number(message: dict[str, object], name: str) -> int:
    value = message.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**64:
        raise LostError(f"the daemon's answer has no {name}")
    return value
