"""What `daemon/src` gives to Python; built by Cargo, no policy in it."""

BOARD: dict[str, tuple[int, dict[str, int]]]
"""`{table: (first page, {field: word index})}` of `daemon/src/board.rs`, names in lower case."""

BOARD_PAGES: int
"""Pages of 4096 bytes of the board."""

def check_json(data: bytes, depth_max: int) -> str | None:
    """Why PostgreSQL would not take `data` as JSON, as the stable word; `None`: it would."""

def check_text(text: bytes) -> str | None:
    """Why `text` cannot stand in an attribute, its length aside; `None`: it can."""

def parse_time(text: bytes) -> int | None:
    """Microseconds since 2000-01-01 UTC of an RFC 3339 time; `None`: none that the log takes."""

class Worker:
    """The kernel of one worker (`daemon/src/worker`). One thread uses it.

    Descriptors are lent for the call: what is needed longer is duplicated.
    """

    def __new__(
        cls, board_fd: int, index: int, log_key: bytes, event_bytes_max: int, depth_max: int
    ) -> Worker:
        """Map the board; `log_key` is 32 bytes."""

    def attach(
        self,
        pair_fd: int,
        forward_bytes: int,
        return_bytes: int,
        forward_bell_fd: int,
        return_bell_fd: int,
        /,
    ) -> None:
        """A log writer is there: map the pair and say hello for every session.

        Raises:
            OSError: the memory has not the size of such a pair; nothing is attached.
        """

    def detach(self) -> None:
        """The log writer is gone: forget all that it had not answered, wait for the next one."""

    def watch(self, fd: int, /) -> None:
        """Make `run` return `("readable", fd)` while `fd` can be read."""

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
        """Begin a session, live after `welcomed`; C is sealed against writing after this.

        Args:
            producer: 16 bytes.
            allowed_sources: names, or prefixes that end in `*`, for events with their own source.
            birth_seq: what a resuming client was told when it was born; `None`: it is new.
            settled: the last ticket whose verdict the client has read, at most 2**62.

        Returns:
            The session's number, never that of another one that somebody still asks for.

        Raises:
            OSError: sizes that are not those of a ring, or too many sessions; nothing is kept.
        """

    def end_session(self, slot: int, clean: bool, /) -> None:
        """The client said goodbye (`clean`) or is gone; `closed` follows. Nobody: does nothing."""

    def drain(self) -> None:
        """Settle what each ring holds now, then end its session as `draining`."""

    def in_flight(self) -> int:
        """Tickets read and not settled."""

    def session_count(self) -> int:
        """Sessions not yet freed."""

    def run(
        self, timeout_ms: int, /
    ) -> list[tuple[str, int] | tuple[str, int, str] | tuple[str, int, int, int, bytes, int]]:
        """Serve all rings, without the GIL, until Python is wanted; at most `timeout_ms`.

        Returns:
            In order: `("readable", fd)`;
            `("welcomed", slot, birth_seq, high, log_uuid, producer_no)`: live for the first time;
            `("refused", slot, reason)`: never live, freed; `("ended", slot, reason)`: ended from
            this side, freed; `("closed", slot)`: `end_session` is done, freed. Empty: time is over,
            or a signal came.
        """
