"""The native half: one session's ring, seen from either side.

Every method runs from beginning to end under the GIL and never blocks, so one call is one step for
all threads.
"""

from collections.abc import Sequence
from typing import final

C_BYTES: int
PAGE_BYTES: int
RING_BYTES_MAX: int
RING_BYTES_MIN: int
VERDICT_COUNT: int
VERSION: int

def encode_plain(value: object) -> bytes | None:
    """Encode exact dict, list, tuple, str, int, float, bool and None as compact JSON.

    Returns:
        What `json.dumps` gives, byte for byte; none: ask that, it encodes or says what is wrong.
    """

class GarbageError(Exception):
    """The daemon wrote what no honest one does; leave this session and connect again."""

@final
class Ring:
    """The producer's side of one session."""

    def __new__(
        cls, p: int, c: int, e: int, ring_bytes: int, last_ticket: int, event_bytes_max: int
    ) -> Ring:
        """Map a session's objects; the descriptors stay the caller's and can be closed.

        Args:
            p: The producer's object, `PAGE_BYTES + ring_bytes` long.
            c: The consumer's object, `C_BYTES` long; mapped read-only.
            e: The daemon's doorbell, an eventfd.
            ring_bytes: A power of two, as the hello asked for.
            last_ticket: The ticket before the first that this ring will hold.
            event_bytes_max: The daemon's limit of data, in bytes.

        Raises:
            ValueError: ring_bytes is out of bounds.
            GarbageError: the objects are not what was agreed.
            OSError: they cannot be mapped.
        """

    def append(
        self,
        type: str,
        data: bytes,
        opaque: bool = False,
        id: str | None = None,
        subject: str | None = None,
        time: str | None = None,
        source: str | None = None,
        dataschema: str | None = None,
        content_type: str | None = None,
        extensions: str | None = None,
    ) -> int:
        """Copy one event into the ring and publish it.

        Returns:
            Its ticket; 0 when there is no room or the ring is retired: nothing was written.

        Raises:
            ValueError: a limit is exceeded; nothing was written.
        """

    def append_plain(
        self,
        type: str,
        data: object,
        id: str | None = None,
        subject: str | None = None,
        source: str | None = None,
        dataschema: str | None = None,
    ) -> int:
        """Append JSON: bytes as they are, or what `encode_plain` encodes, without its bytes object.

        Returns:
            As `append`; 0 also for data that is neither.

        Raises:
            ValueError: a limit is exceeded; nothing was written.
        """

    def append_many(self, type: str, items: Sequence[object], start: int) -> tuple[int, int]:
        """Append `items[start:]` (a list) with one publication, as far as it goes.

        It takes what `append_plain` takes, 256 items at most, and stops at the first that is
        something else, exceeds a limit, or has no room.

        Returns:
            How many were appended, and the last ticket of this ring.
        """

    def append_payloads(self, payloads: bytes, start: int) -> tuple[int, int, int]:
        """Append payloads that are encoded already, with one publication, as far as it goes.

        It takes at most 1024 of them, or 512 KiB and what the last one has beyond that, and stops
        at the first that has no room or is malformed. A ring that is retired or forked takes none.

        Args:
            payloads: A sequence of `bytes u32, little-endian | payload`, the payloads as
                `ipc/src/record.rs` draws them. Copied.
            start: Where to begin: 0, or the second number that the last call returned.

        Returns:
            How many were appended, where the next one begins (`len(payloads)`: all are in the
            ring), and the last ticket of this ring.

        Raises:
            ValueError: the payload at `start` is malformed or exceeds a limit, which is a bug of
                whoever encoded it; nothing was written.
        """

    def drain(self) -> tuple[int, list[tuple[int, int, int, int, str, str]]]:
        """Read and acknowledge the verdicts that are out.

        Returns:
            The last settled ticket, and entries `(ticket, count, seq, group, verdict, reason)`.

        Raises:
            GarbageError: the daemon wrote what cannot be; nothing is read from now on.
        """

    def arm_settled(self, ticket: int) -> bool:
        """Ask for a bell once `ticket` is settled; true when it is already."""

    def arm_room(self) -> bool:
        """Ask for a bell once half of the ring is free; true when it is already."""

    def disarm(self) -> None:
        """Ask for no bell any more."""

    def retire(self) -> None:
        """Append nothing any more; verdicts are still read."""

    def adopt_unsettled(self, old: Ring, high: int) -> int:
        """Copy every frame above `high` from the old ring, byte for byte, and retire that one.

        Returns:
            How many tickets are offered again.

        Raises:
            GarbageError: `high` is not one that an honest daemon answers; the old ring stays.
        """

    @property
    def last_ticket(self) -> int: ...
    @property
    def settled(self) -> int:
        """The last ticket whose verdict was drained."""

    @property
    def open(self) -> bool:
        """Neither retired nor forked."""

    @property
    def forked(self) -> bool:
        """Whether this process is a child of the one that made the ring."""

    @property
    def used_bytes(self) -> int:
        """Bytes that the daemon has not released."""

@final
class Consumer:
    """The daemon's side of one session, one call a step. For tests and tools only."""

    def __new__(cls, p: int, c: int, ring_bytes: int) -> Consumer: ...
    def read(self) -> list[tuple[int, bytes]]:
        """`(ticket, payload)` of what has come; ValueError with the word for garbage."""

    def room(self) -> int:
        """Entries that the verdict ring has room for."""

    def push(
        self,
        ticket: int,
        verdict: str,
        seq: int = 0,
        group: int = 0,
        count: int = 1,
        reason: str = "",
    ) -> None:
        """Write one verdict entry; seen at the next `publish`."""

    def publish(self, settled: int) -> None:
        """Make the entries visible, then `settled`."""

    def release(self, ticket: int) -> bool:
        """Free the frames up to `ticket`; true when the producer wants its bell."""

    def prepare_sleep(self) -> bool:
        """Ask for the doorbell; true when nothing has come meanwhile."""

    def woke(self) -> None:
        """Ask for the doorbell no more."""

    def scribble(self, offset: int, value: int) -> None:
        """Store any word of C, as no honest daemon would."""

    @property
    def settled_read(self) -> int:
        """What the producer says that it has read."""

    @property
    def wake_words(self) -> tuple[int, int]:
        """The settled ticket and the head at which the producer wants its bell."""
