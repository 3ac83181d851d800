"""What clients and loop need of `certeusd._native.Worker`, which the stub documents.

A protocol, so that tests can play the kernel.
"""

from typing import Protocol

Event = tuple[str, int] | tuple[str, int, str] | tuple[str, int, int, int, bytes, int]
"""`_native.Worker.run` says which."""


Seen = tuple[int, int, int, int, int, dict[str, int], int, int, list[int]]
"""`_native.Worker.seen` says which."""


class Kernel(Protocol):
    """The native kernel of a worker."""

    def watch(self, fd: int, /) -> None:
        """Make `run` return when `fd` can be read."""

    def unwatch(self, fd: int, /) -> None:
        """Comes before `fd` is closed."""

    def add_session(
        self,
        *,
        p_fd: int,
        c_fd: int,
        e_fd: int,
        socket_fd: int,
        ring_bytes: int,
        uid: int,
        producer: bytes,
        tenant: str,
        source: str,
        allowed_sources: list[str],
        birth_seq: int | None,
        settled: int,
    ) -> int:
        """Begin a session; return its slot."""
        ...

    def end_session(self, slot: int, clean: bool, /) -> None:
        """Let the client go; `closed` follows."""

    def attach(
        self,
        pair_fd: int,
        forward_bytes: int,
        return_bytes: int,
        forward_bell_fd: int,
        return_bell_fd: int,
        /,
    ) -> None:
        """Take a new pair with the log writer."""

    def detach(self) -> None:
        """Forget the pair."""

    def drain(self) -> None:
        """Settle what is held, then end every session."""

    def let_go(self, slots: list[int], /) -> None:
        """Drain these sessions."""

    def hand_over(self) -> int:
        """Drain every second live session, those that drain by now counted; return how many go."""
        ...

    def in_flight(self) -> int:
        """Tickets read and not settled."""
        ...

    def session_count(self) -> int:
        """Sessions not yet freed."""
        ...

    def seen(self, first: int, count: int, /) -> tuple[list[Seen], int | None]:
        """Look at up to `count` live sessions, from a place of the table on."""
        ...

    def run(self, timeout_ms: int, /) -> list[Event]:
        """Serve until Python is wanted."""
        ...
