"""The clients of one worker: from accept to the last byte, once a session.

```text
accept ──▶ unconfirmed ──hello──▶ greeting ──welcomed──▶ live ──▶ closed by either side
               │ 1 s                 │ refused              │ goodbye, end of file: end_session
               ▼                     ▼                      │ ended (by the kernel): told, closed
            refused               refused                   ▼
                                                      ring counted until the kernel has freed it
```

No client can make this side wait: sockets do not block, and who does not read its answer is closed.
The memory of a ring takes a millisecond or two to make, so a round of the loop makes one: between
any two, the kernel serves everybody who is live.
"""

import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from certeusd.config import LimitsSection
from certeusd.peer import Peer, peer_of
from certeusd.rule import Rule
from certeusd.worker import descriptors
from certeusd.worker.access import decide
from certeusd.worker.audit import Audit
from certeusd.worker.descriptors import Descriptors
from certeusd.worker.handshake import (
    MESSAGE_BYTES_MAX,
    Hello,
    Refusal,
    Unconfirmed,
    encode_ended,
    encode_welcome,
    is_goodbye,
    parse_hello,
    refusal_by_log,
)
from certeusd.worker.kernel import Kernel
from certeusd.worker.ledger import Caps, Ledger

ACCEPTS_MAX = 16
ACCEPT_PAUSE_S = 1.0
HELLOS_A_ROUND = 1
CROWDED = Refusal("draining", "too many connections wait for a hello", "connect again")
"""By its reason every library says its first hello again: when many sessions move at once, who is
new must not fail for it."""


class Counters(Protocol):
    """Where refusals are counted."""

    def refused(self) -> None:
        """Count one."""


@dataclass(slots=True)
class Client:
    """One connection."""

    end: socket.socket
    peer: Peer
    rule: Rule
    hello: Hello | None = None
    slot: int | None = None
    descriptors: Descriptors | None = None
    """Until they are sent."""
    connected_at: float = field(default_factory=time.time)
    """To be shown; the clock may be set meanwhile."""


class Clients:
    """Every connection and session; the loop tells it what happened."""

    def __init__(
        self,
        kernel: Kernel,
        listeners: Sequence[tuple[socket.socket, Rule]],
        *,
        limits: LimitsSection,
        ledger: Ledger,
        audit: Audit,
        counters: Counters,
        clock: Callable[[], float],
    ) -> None:
        self._kernel = kernel
        self._listeners = {end.fileno(): (end, rule) for end, rule in listeners}
        self._limits = limits
        self._ledger = ledger
        self._audit = audit
        self._counters = counters
        self._clock = clock
        self._unconfirmed = Unconfirmed[int]()
        self._by_fd: dict[int, Client] = {}
        self._by_slot: dict[int, Client] = {}
        self._accepting = False
        self._accept_after = 0.0
        self._hellos = 0

    @property
    def sessions(self) -> int:
        """Sessions that count against the limits, those being freed among them."""
        return self._ledger.sessions

    def of_slot(self, slot: int) -> Client:
        """Whose session that is; it is not yet freed."""
        return self._by_slot[slot]

    def next_deadline(self) -> float | None:
        """When `end_round` has something to do."""
        return self._unconfirmed.next_deadline()

    def share(self, workers: int, index: int) -> list[int]:
        """Hold that worker's part of the host's limits; return the sessions above it."""
        self._ledger.limit(Caps.of(self._limits, workers, index))
        return self._ledger.surplus(
            (slot, client.peer.uid, client.hello.ring_bytes)
            for slot, client in self._by_slot.items()
            if client.hello is not None
        )

    # --- listening -------------------------------------------------------------------------------

    def accept_clients(self, wanted: bool) -> None:
        """Poll the listeners, or leave new clients to other workers."""
        wanted = wanted and self._clock() >= self._accept_after
        if wanted == self._accepting:
            return
        self._accepting = wanted
        for fd in self._listeners:
            if wanted:
                self._kernel.watch(fd)
            else:
                self._kernel.unwatch(fd)

    def on_readable(self, fd: int) -> bool:
        """Read a descriptor that can be; False: it is none of ours."""
        if fd in self._listeners:
            self._accept(*self._listeners[fd])
        elif fd in self._by_fd:
            self._read(self._by_fd[fd])
        else:
            return False
        return True

    def _accept(self, listener: socket.socket, rule: Rule) -> None:
        for _ in range(ACCEPTS_MAX):
            try:
                end, _ = listener.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError as error:  # No descriptors or no memory: nothing that a client did.
                self._audit.accept_failed(os.strerror(error.errno or 0))
                self._accept_after = self._clock() + ACCEPT_PAUSE_S
                self.accept_clients(False)
                return
            end.setblocking(False)
            client = Client(end, peer_of(end), rule)
            fd = end.fileno()
            self._by_fd[fd] = client
            self._kernel.watch(fd)
            surplus = self._unconfirmed.add(fd, client.peer.uid, self._clock())
            if surplus is not None:
                self._refuse(self._by_fd[surplus], CROWDED, noted="too-many-connections")

    # --- hello -----------------------------------------------------------------------------------

    def end_round(self) -> None:
        """Refuse who has not said hello in time; comes after what the kernel told is done."""
        self._hellos = 0
        for fd in self._unconfirmed.expired(self._clock()):
            self._refuse(
                self._by_fd[fd],
                Refusal("hello-timeout", "no hello within 1 s", "send it right after connecting"),
            )

    def _read(self, client: Client) -> None:
        if client.hello is None and self._hellos >= HELLOS_A_ROUND:
            return  # It can still be read in the next round.
        try:
            packet, _, flags, _ = client.end.recvmsg(MESSAGE_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            packet, flags = b"", 0
        if not packet:
            self._gone(client, clean=False)
        elif client.hello is None:
            self._hello(client, b"" if flags & socket.MSG_TRUNC else packet)
        elif client.descriptors is None and is_goodbye(packet):
            self._gone(client, clean=True)
        else:
            self._audit_ended(client, "malformed-message")
            self._send(client, encode_ended("malformed-message"))
            self._gone(client, clean=False)

    def _hello(self, client: Client, packet: bytes) -> None:
        hello = parse_hello(packet, self._limits.ring_bytes_max)
        if isinstance(hello, Refusal):
            self._refuse(client, hello)
            return
        client.hello = hello
        peer, rule = client.peer, client.rule
        refusal = decide(rule, peer, hello.source)
        refusal = refusal or self._ledger.take(peer.uid, hello.ring_bytes)
        if refusal is not None:
            self._refuse(client, refusal)
            return
        self._unconfirmed.discard(client.end.fileno())
        self._hellos += 1
        made: Descriptors | None = None
        try:
            made = descriptors.make(hello.ring_bytes)
            client.slot = self._add_session(client, hello, made)
            # After the kernel's own writable mapping, before the client has a descriptor.
            made.seal_against_writing()
        except OSError as error:
            self._no_memory(client, hello, made, error)
            return
        client.descriptors = made
        self._by_slot[client.slot] = client

    def _add_session(self, client: Client, hello: Hello, made: Descriptors) -> int:
        return self._kernel.add_session(
            p_fd=made.p,
            c_fd=made.c,
            e_fd=made.e,
            socket_fd=client.end.fileno(),
            ring_bytes=hello.ring_bytes,
            uid=client.peer.uid,
            producer=hello.producer,
            tenant=client.rule.tenant,
            source=hello.source,
            allowed_sources=list(client.rule.sources),
            birth_seq=hello.birth_seq,
            settled=hello.settled,
        )

    def _no_memory(
        self, client: Client, hello: Hello, made: Descriptors | None, error: OSError
    ) -> None:
        if made is not None:
            made.close()
        refusal = Refusal(
            "ring-bytes",
            f"cannot make a ring of {hello.ring_bytes} bytes: {error.strerror}",
            "ask for a smaller ring, or give certeusd more memory or descriptors",
        )
        if client.slot is None:
            self._ledger.give_back(client.peer.uid, hello.ring_bytes)
        else:
            self._by_slot[client.slot] = client
            self._kernel.end_session(client.slot, False)
        self._refuse(client, refusal)

    # --- what the kernel says --------------------------------------------------------------------

    def on_welcomed(
        self, slot: int, birth_seq: int, high: int, log_uuid: bytes, producer_no: int
    ) -> None:
        """Give the client its descriptors: its session is live."""
        client = self._by_slot[slot]
        made, client.descriptors = client.descriptors, None
        if made is None or client.end.fileno() < 0:  # It went before it was welcome.
            return
        packet = encode_welcome(
            session=slot,
            log_uuid=log_uuid,
            birth_seq=birth_seq,
            high=high,
            producer_no=producer_no,
            event_bytes_max=self._limits.event_bytes_max,
            depth_max=self._limits.depth_max,
        )
        try:
            socket.send_fds(client.end, [packet], [made.p, made.c, made.e])
        except OSError:  # Gone, or it cannot take descriptors: its end of file ends the session.
            with suppress(OSError):
                client.end.shutdown(socket.SHUT_RDWR)
        finally:
            made.close()

    def on_refused(self, slot: int, reason: str) -> None:
        """Tell a client that the log writer, or a drain, refused it; its session is freed."""
        client = self._free(slot)
        self._refuse(client, refusal_by_log(reason))

    def on_ended(self, slot: int, reason: str) -> None:
        """Tell a client why the kernel has ended its session, which is freed."""
        client = self._free(slot)
        if client.end.fileno() >= 0:
            if reason != "draining":
                self._audit_ended(client, reason)
            self._send(client, encode_ended(reason))
            self._close(client)

    def on_closed(self, slot: int) -> None:
        """Count out a session that the client ended and the kernel has freed."""
        self._free(slot)

    # --- the end ---------------------------------------------------------------------------------

    def refuse_unconfirmed(self) -> None:
        """Send who has not said hello to another worker: this one drains."""
        for client in [client for client in self._by_fd.values() if client.slot is None]:
            self._refuse(client, refusal_by_log("draining"))

    def end_all(self) -> None:
        """Tell the rest to connect again: the time for draining is over."""
        for client in list(self._by_fd.values()):
            self._send(client, encode_ended("draining"))
            self._close(client)

    def _gone(self, client: Client, *, clean: bool) -> None:
        if client.slot is not None:
            self._kernel.end_session(client.slot, clean)
        self._close(client)

    def _free(self, slot: int) -> Client:
        client = self._by_slot.pop(slot)
        assert client.hello is not None, "a session began with a hello"
        self._ledger.give_back(client.peer.uid, client.hello.ring_bytes)
        return client

    def _refuse(self, client: Client, refusal: Refusal, *, noted: str = "") -> None:
        if client.end.fileno() < 0:
            return
        self._counters.refused()
        if noted or refusal.reason != "draining":
            self._audit.hello_refused(
                noted or refusal.reason,
                uid=client.peer.uid,
                pid=client.peer.pid,
                tenant=client.rule.tenant,
                source=client.hello.source if client.hello else "",
            )
        self._send(client, refusal.encode())
        self._close(client)

    def _audit_ended(self, client: Client, reason: str) -> None:
        slot = client.slot if client.slot is not None else -1
        self._audit.session_ended(reason, uid=client.peer.uid, pid=client.peer.pid, slot=slot)

    def _send(self, client: Client, packet: bytes) -> None:
        with suppress(OSError):
            client.end.send(packet, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)

    def _close(self, client: Client) -> None:
        fd = client.end.fileno()
        self._unconfirmed.discard(fd)
        self._kernel.unwatch(fd)
        del self._by_fd[fd]
        if client.descriptors is not None:
            client.descriptors.close()
            client.descriptors = None
        client.end.close()
