"""From the journal to the log: one block after the other, the position behind what is durable.

A block is handed over whole and its verdicts are waited for before the next one is read. So there
is back-pressure without a counter: while the ring is full, journalctl waits for its pipe. What is
in doubt is handed over again, with the same ids.
"""

import asyncio
import contextlib
import json
import time

from certeus.errors import Error
from certeus.receipts import Verdict
from certeusd._native import DoorEncoder, Encoded, JournalDecoder
from certeusd.door import Door, event_bytes_max, ring_bytes
from certeusd.door_process import DoorProcess
from certeusd.journal.journalctl import Journalctl, UnreadableError, own_cgroup
from certeusd.journal.position import DamagedError, Position, PositionFile

SAVE_S = 1.0
AGAIN_S = 1.0
READABLE_S = 2.0
FOREVER_S = 10 * 365 * 86_400.0
STALL_S = 30.0
"""A block that waits longer for its verdicts: the journal may have let entries go meanwhile."""
GAP_SHOWN_S = 3600.0
UNREADABLE, GAP = "journal-unreadable", "journal-gap"
UNSAVED, DAMAGED = "journal-position-unsaved", "journal-position-damaged"


class Follower:
    """One life of the door."""

    def __init__(self, process: DoorProcess) -> None:
        self._process = process
        self._section = process.config.journal
        self._journalctl = Journalctl(self._section)
        self._file = PositionFile(process.paths.state_dir)
        limits = process.config.limits
        self._ring_bytes = ring_bytes(limits)
        data_max = event_bytes_max(limits, self._ring_bytes)
        self._encoder = DoorEncoder(data_max, self._section.source, [])
        self._own = own_cgroup()
        self._position: Position | None = None
        """Everything before it is durable."""
        self._saved: Position | None = None
        self._door: Door | None = None
        self._gap_behind: str | None = None
        self._handing = asyncio.Lock()
        """Held from the first event of a block to the position behind it."""

    async def run(self) -> None:
        """Follow until the process drains; then settle what was handed over, and save."""
        self._process.ready()
        following = asyncio.create_task(self._follow())
        saving = asyncio.create_task(self._save_often())
        await asyncio.wait([following, saving], return_when=asyncio.FIRST_COMPLETED)
        if following.done():
            following.result()  # A bug: it runs for ever.
        await saving  # Never cancelled: two of them would write one file.
        half_s = self._process.drain_timeout_s / 2
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(half_s):
                await self._handing.acquire()
        following.cancel()
        await asyncio.wait([following])
        if self._door is not None:
            await self._door.close(half_s)
        await self._save()

    async def _follow(self) -> None:
        while True:
            try:
                if self._position is None:
                    self._position = await self._begin()
                await self._read(self._position)
            except UnreadableError as error:
                self._process.tell(
                    UNREADABLE, f"cannot read the journal: {error}",
                    "install systemd, and let the daemon's user read it: SupplementaryGroups="
                    "systemd-journal in a drop-in of the service (docs/journal.md)",
                )  # fmt: skip
            except DamagedError as error:
                self._process.tell(
                    DAMAGED, f"cannot go on from {self._file.path}: {error}",
                    "mend it, or remove it: the door then begins as journal.since says",
                )  # fmt: skip
            except OSError as error:
                self._tell_unsaved(error)
            await asyncio.sleep(AGAIN_S)

    async def _begin(self) -> Position:
        """Return the position of the life before; the first one is saved before it is used."""
        position = await asyncio.to_thread(self._file.load)
        self._process.tell(DAMAGED, "")
        if position is None:
            position = await self._journalctl.begin()
            await asyncio.to_thread(self._file.save, position)
        self._process.tell(UNSAVED, "")
        self._saved = position
        return position

    async def _read(self, position: Position) -> None:
        """Take entries from a position on.

        Raises:
            UnreadableError: journalctl has ended.
        """
        position = await self._look_for_gap(position)
        after = position.cursor if position.taken else None
        decoder = JournalDecoder(self._encoder, self._section.type, self._own, after)
        # Nothing comes of a quiet journal: who follows it for so long can read it.
        readable = asyncio.get_running_loop().call_later(
            READABLE_S, self._process.tell, UNREADABLE, ""
        )
        try:
            async with contextlib.aclosing(self._journalctl.blocks(position)) as blocks:
                async for block in blocks:
                    await self._take(decoder, block)
        finally:
            readable.cancel()

    async def _take(self, decoder: JournalDecoder, block: bytes) -> None:
        """Return when everything of a block is durable, and the position behind it."""
        began = time.monotonic()
        try:
            encoded = decoder.take(block)
        except ValueError as error:
            raise UnreadableError(str(error)) from error
        async with self._handing:
            await self._hand_over(encoded)
            if (cursor := decoder.cursor) is not None:
                self._position = Position(cursor, taken=True)
        if time.monotonic() - began > STALL_S and self._position is not None:
            await self._look_for_gap(self._position)

    async def _hand_over(self, encoded: Encoded) -> None:
        """Return when everything of it is durable, or refused."""
        self._tell_refused([word for _, word in encoded.refused])
        if not encoded.count:
            return
        self._process.count("bytes_total", len(encoded.payloads))
        self._process.count("events_total", encoded.count)
        while True:
            try:
                door = await self._usable()
                tickets = await door.append(encoded.payloads, FOREVER_S)
                await door.settled(tickets[-1], FOREVER_S)
                break
            except Error as error:
                # Which of them are in the log their ids tell.
                self._process.logger.warning("journal_producer_ended", error=str(error))
                await asyncio.sleep(AGAIN_S)
        self._tell_refused([
            run.receipt.reason
            for run in door.runs(tickets)
            if run.receipt is not None and run.receipt.verdict == Verdict.REJECTED
            for _ in range(run.length)
        ])  # fmt: skip
        self._process.progressed()

    async def _usable(self) -> Door:
        if self._door is not None and not self._door.usable:
            await self._door.close(0.0)
            self._door = None
        if self._door is None:
            self._door = await Door.open(
                self._process.private_socket, self._section.source, ring_bytes=self._ring_bytes
            )
            self._process.gauge("producers", 1)
        return self._door

    def _tell_refused(self, words: list[str]) -> None:
        if words:
            self._process.count("refused_total", len(words))
            self._process.logger.warning(
                "journal_entries_refused", count=len(words), reason=words[0]
            )

    # --- gaps --------------------------------------------------------------------------------

    async def _look_for_gap(self, position: Position) -> Position:
        """Return where to go on; tell, and log as an event, that an entry is not there any more."""
        found = await self._journalctl.at(position.cursor)
        if found == position.cursor or not position.cursor:
            return position
        if self._gap_behind != position.cursor:
            await self._tell_gap(position, found)
            self._gap_behind = position.cursor
        first = await self._journalctl.behind_gap(position.cursor, found)
        return Position(first, taken=False)

    async def _tell_gap(self, position: Position, found: str) -> None:
        self._process.logger.warning("journal_gap_found", after=position.cursor, next=found)
        self._process.tell(
            GAP, f"the journal has not kept its entry {position.cursor}: entries behind it may be"
            " lost", "keep more of the journal (SystemMaxUse= of journald.conf)",
        )  # fmt: skip
        loop = asyncio.get_running_loop()
        loop.call_later(GAP_SHOWN_S, self._process.tell, GAP, "")
        data = json.dumps({"after": position.cursor}).encode()
        name = f"gap:{position.cursor}"
        await self._hand_over(
            self._encoder.event(data, False, f"{self._section.type}.gap", id=name)
        )

    # --- the position ------------------------------------------------------------------------

    async def _save_often(self) -> None:
        """Save the position as it moves, until the process drains."""
        draining = self._process.draining
        while not draining.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SAVE_S):
                    await draining.wait()
            await self._save()

    async def _save(self) -> None:
        position = self._position
        if position is None or position == self._saved:
            return
        try:
            await asyncio.to_thread(self._file.save, position)
        except OSError as error:
            self._tell_unsaved(error)
            return
        self._saved = position
        self._process.tell(UNSAVED, "")

    def _tell_unsaved(self, error: OSError) -> None:
        self._process.tell(
            UNSAVED, f"cannot keep {self._file.path}: {error.strerror}",
            "make room there, and let the daemon's user write it",
        )  # fmt: skip


async def serve(process: DoorProcess) -> None:
    """Be the door's process."""
    await Follower(process).run()
