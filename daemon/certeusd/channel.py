"""The channel between the supervisor and one child: a `SOCK_SEQPACKET` pair, one message a packet.

```text
supervisor                                             child (python -m certeusd.ROLE --channel FD)
    │── Start + [board, ...] ──────────────────────────▶│   first, always
    │◀───────────────────────────────────────── Ready ──│   it does its work
    │── Attach + [pair, forward bell, return bell] ────▶│   the other end of a pair is there
    │── Detach ────────────────────────────────────────▶│   the other end has died: unmap, forget
    │── AcceptGap, AcceptDeadLetters, Retry ───────────▶│   flusher only: an admin's word
    │── AskLetters ────────────────────────────────────▶│   flusher only; answered by Answer
    │── Squeeze ───────────────────────────────────────▶│   flusher only: memory is short
    │◀───────────────────── State, Progress, Report ────│
    │◀─────────────────────── Answer + [its content] ───│
    │── AskSessions ───────────────────────────────────▶│   worker only: whom it serves, a page
    │◀──────────────────────────────────────── Sessions │
    │── Share ─────────────────────────────────────────▶│   worker only: how many share the clients
    │── HandOver ──────────────────────────────────────▶│   worker only: half of its sessions go
    │── Level ─────────────────────────────────────────▶│   log from this level on
    │── Drain ─────────────────────────────────────────▶│   finish what is held, exit 0
    x end of file: the supervisor is gone; exit at once
```

Messages are JSON, descriptors go by SCM_RIGHTS beside them. Both ends are processes of one daemon
of one version: what does not parse is a bug and raises.

A child is a fresh interpreter in its own session. It calls `adopt` before anything else.

Descriptors of `Start`: worker: board, then one listening socket for each `[[ingest]]` and for each
door, in order; log: board, follower bell; flush: board, follower bell; a door: board, then what it
listens on. Who receives a descriptor owns it.
The log's key is in `<state-dir>/keys/log.key` (32 bytes), made before any child is started.
"""

import os
import signal
import socket
from typing import Literal

import msgspec

from certeusd.config import Config
from certeusd.pdeathsig import set_parent_death_signal

Role = Literal["worker", "log", "flush", "api", "syslog", "journal"]

PACKET_BYTES_MAX = 128 * 1024
DESCRIPTORS_MAX = 64

_SO_PEERCRED_BYTES = 12


class ChannelError(Exception):
    """The channel carried something that no supervisor or child of this version sends."""


class Start(msgspec.Struct, tag_field="type", tag="start", frozen=True):
    """Supervisor to child, first: everything that the child needs to know."""

    role: Role
    index: int
    config: Config
    """The whole effective configuration, without secrets."""
    state_dir: str
    runtime_dir: str
    log_level: str
    board_bytes: int
    postgres_dsn: str | None = None
    """For the flusher alone; may carry a password, so it is never logged."""
    api_key: str | None = None
    """For `api` alone; never logged."""


class Attach(msgspec.Struct, tag_field="type", tag="attach", frozen=True):
    """Supervisor to worker and log writer, with pair, forward bell and return bell."""

    worker: int
    forward_bytes: int
    return_bytes: int


class Detach(msgspec.Struct, tag_field="type", tag="detach", frozen=True):
    """Supervisor to the surviving end of a pair: unmap it and forget what it held."""

    worker: int


class Drain(msgspec.Struct, tag_field="type", tag="drain", frozen=True):
    """Supervisor to child: accept no more, finish what is held, exit 0."""


class AcceptGap(msgspec.Struct, tag_field="type", tag="accept_gap", frozen=True):
    """Supervisor to flusher: an admin accepts the gap at which it stopped, if it is this one."""

    first_seq: int
    last_seq: int


class AcceptDeadLetters(msgspec.Struct, tag_field="type", tag="accept_dead_letters", frozen=True):
    """Supervisor to flusher: refused rows up to here may be dead letters, however many."""

    until_seq: int


class Retry(msgspec.Struct, tag_field="type", tag="retry", frozen=True):
    """Supervisor to flusher: try the destination now, whatever its breaker says."""


class AskLetters(msgspec.Struct, tag_field="type", tag="ask_letters", frozen=True):
    """Supervisor to flusher: show dead letters, deliver them again, or drop them."""

    number: int
    """Of the question: the answer has it, too."""
    verb: Literal["list", "retry", "drop"]
    first_seq: int
    last_seq: int
    limit: int = 0
    reason: str = ""
    whole: bool = False
    by: str = ""
    """Who drops them."""


class Squeeze(msgspec.Struct, tag_field="type", tag="squeeze", frozen=True):
    """Supervisor to flusher: memory is short (or not any more), take small batches."""

    active: bool


class Level(msgspec.Struct, tag_field="type", tag="level", frozen=True):
    """Supervisor to child: log from this level on."""

    level: str


class Share(msgspec.Struct, tag_field="type", tag="share", frozen=True):
    """Supervisor to worker: so many workers share clients and limits from now on."""

    workers: int


class HandOver(msgspec.Struct, tag_field="type", tag="hand_over", frozen=True):
    """Supervisor to worker: end every second session in order, for another worker to take."""


class Ready(msgspec.Struct, tag_field="type", tag="ready", frozen=True):
    """Child to supervisor: it does its work."""


class State(msgspec.Struct, tag_field="type", tag="state", frozen=True):
    """Child to supervisor: a reason for `degraded` appears (`active`) or goes."""

    code: str
    """Stable word, such as `postgres-away`."""
    what: str = ""
    next: str = ""
    active: bool = True


class Progress(msgspec.Struct, tag_field="type", tag="progress", frozen=True):
    """Child to supervisor: the first useful thing of this life is done; resets the backoff."""


class Report(msgspec.Struct, tag_field="type", tag="report", frozen=True):
    """Child to supervisor: what `status` shows under `kind`; the newest one counts."""

    kind: str
    data: dict[str, object] = {}


class Answer(msgspec.Struct, tag_field="type", tag="answer", frozen=True):
    """Child to supervisor: the answer to a question, as JSON in a memfd, or why there is none."""

    number: int
    problem: str = ""
    """Stable word, such as `postgres-away`; then without a memfd."""
    detail: str = ""


class AskSessions(msgspec.Struct, tag_field="type", tag="ask_sessions", frozen=True):
    """Supervisor to worker: tell the sessions from this place on; one question at a time."""

    first: int


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One producer's session at one moment; sums are over the session's life."""

    number: int
    uid: int
    pid: int
    tenant: str
    source: str
    connected_at: float
    """Seconds since 1970."""
    events: int
    bytes: int
    settled: int
    duplicates: int
    rejected: dict[str, int]
    """By reason; by whom does not matter."""
    in_flight: int
    ring_bytes: int
    ring_used: int
    """Bytes between head and tail."""
    ack_ns_buckets: list[int]
    """From the reading of an event to its verdict (`certeusd.histogram`)."""

    @property
    def place(self) -> int:
        """Where it lies in the worker's table."""
        return self.number & 0xFFFF


class Sessions(msgspec.Struct, tag_field="type", tag="sessions", frozen=True):
    """Worker to supervisor: a page of sessions, and the place of the next one, if there is one."""

    sessions: list[Session]
    next: int | None


Order = Drain | AskLetters | AcceptGap | AcceptDeadLetters | Retry | Squeeze | Level
Told = Ready | State | Progress | Report | Answer | Sessions
Message = Start | Attach | Detach | Order | AskSessions | Share | HandOver | Told

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)


def fits(message: Message) -> bool:
    """Whether a message is not too long for a packet."""
    return len(_encoder.encode(message)) <= PACKET_BYTES_MAX


class Channel:
    """One end of a channel. Owns its socket."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    def fileno(self) -> int:
        """Return the descriptor, to be watched for reading."""
        return self._socket.fileno()

    def setblocking(self, blocking: bool) -> None:
        """Whether `receive` and `send` may wait."""
        self._socket.setblocking(blocking)

    def receive(self) -> tuple[Message, list[int]] | None:
        """Take one message and its descriptors (close-on-exec, owned by the caller).

        Returns:
            `None` at end of file: the other process is gone.

        Raises:
            BlockingIOError: nothing is there and the channel does not block.
            ChannelError: not a message; descriptors that came along are closed.
        """
        try:
            packet, descriptors, flags, _ = socket.recv_fds(
                self._socket, PACKET_BYTES_MAX, DESCRIPTORS_MAX
            )
        except ConnectionResetError:
            return None
        if not packet:
            return None
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise ChannelError(f"cannot read a message: cut at {len(packet)} bytes")
            message = _decoder.decode(packet)
        except (ChannelError, msgspec.DecodeError) as error:
            for descriptor in descriptors:
                os.close(descriptor)
            raise ChannelError(f"cannot read a message: {error}") from error
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        return message, descriptors

    def send(self, message: Message, descriptors: list[int] | None = None) -> bool:
        """Send one message; `descriptors` are lent for the call.

        Returns:
            False if the other process is gone (its death is told elsewhere).

        Raises:
            BlockingIOError: the other side does not read and the channel does not block.
        """
        packet = _encoder.encode(message)
        assert len(packet) <= PACKET_BYTES_MAX, f"a message of {len(packet)} bytes"
        try:
            sent = socket.send_fds(self._socket, [packet], descriptors or [])
        except (BrokenPipeError, ConnectionResetError):
            return False
        assert sent == len(packet), "a packet goes whole or not at all"
        return True

    def close(self) -> None:
        """Close this end; the other side sees end of file."""
        self._socket.close()


def pair() -> tuple[Channel, socket.socket]:
    """Make a channel: the supervisor's end (not blocking) and the socket for the child."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return Channel(ours), theirs


def peer_pid(end: socket.socket) -> int:
    """Return the pid of the process that made the socket pair: for a child, the supervisor."""
    raw = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _SO_PEERCRED_BYTES)
    return int.from_bytes(raw[:4], "little", signed=True)


def adopt(fd: int) -> Channel:
    """First thing in a child's main: tie its life to the supervisor's, and take the channel.

    Sets PDEATHSIG, then looks whether the parent is still the one that made the channel; a child
    that came too late exits at once. Signals meant for the service are ignored, because the
    supervisor stops its children by `Drain`.
    """
    set_parent_death_signal(signal.SIGKILL)
    os.set_inheritable(fd, False)
    end = socket.socket(fileno=fd)
    end.setblocking(True)
    if os.getppid() != peer_pid(end):
        os._exit(0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    return Channel(end)
