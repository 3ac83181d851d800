"""One followed FILE: its generations, open and read in order, and its position file.

Generations are read from the oldest to the newest, and the newest only while the others have
nothing: one that was rotated away is watched until it was quiet for a minute, because its writer
may not have noticed yet.
"""

import os
import time
from collections.abc import Callable
from typing import NamedTuple

from certeusd.cli.pipe_positions import (
    HEAD_BYTES,
    VERSION,
    Generation,
    PositionFile,
    Positions,
    boot_id,
    digest,
    new_generation,
)
from certeusd.cli.pipe_reading import (
    Chunk,
    Mark,
    Reading,
    Truncated,
    after_power_cut,
    agrees,
    copied,
    current_entry,
    directory_mtime_ns,
    open_file,
    same,
    scan,
)
from certeusd.cli.pipe_rotation import (
    Entry,
    Found,
    is_compressed,
    is_rotated,
    look,
    oldest_first,
)
from certeusd.cli.pipe_session import Manner
from certeusd.exits import Exit, ExitError

SAVE_S = 0.2
LINGER_S = 60.0
READINGS_MAX = 16
KNOWN_MAX = 64
GO_ON_MAX = 8


class Piece(NamedTuple):
    """Lines to offer, and whose they are."""

    reading: Reading
    chunk: Chunk


class Follower:
    """Follows one FILE."""

    def __init__(
        self,
        path: str,
        file: PositionFile,
        manner: Manner,
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the positions; no file is opened yet.

        Raises:
            ExitError: the positions cannot be used with this path and manner.
        """
        self.path = os.path.abspath(path)
        self.lost = 0
        """How often lines may be missing that rotation took away."""
        self.waiting = False
        """Something could not be looked at just now."""
        self._file = file
        self._tell = tell
        self._clock = clock
        self._readings: list[Reading] = []
        self._begun = False
        self._directory_ns = 0
        self._more = False
        self._dirty = False
        self._saved_at = clock()
        self._told: set[str] = set()
        known = file.load()
        if known is not None:
            _check_known(known, self.path, manner, file)
        generations = known.generations if known else []
        self._fresh = known is None
        self._positions = Positions(VERSION, self.path, manner, boot_id(), False, generations)
        self.unclean_seq = known.seq if known is not None and not known.clean else 0
        """The newest line that is known of a run that did not end cleanly; 0 for none."""
        self._positions.seq = known.seq if known is not None else 0
        self._power_cut = known is not None and not known.clean and known.boot != boot_id()

    # --- reading -----------------------------------------------------------------------------

    def step(self) -> Piece | None:
        """Return the next lines; None when there is nothing to read now.

        Raises:
            ExitError: the path is no file, or not ours to read.
        """
        self.waiting = False
        if not self._begun and not self._begin():
            return None
        for _ in range(GO_ON_MAX):
            if not self._nothing_new_beside():
                return None
            piece, cut = self._read()
            if piece is not None:
                return piece
            if cut is None and self._more:
                piece = self._end_oldest()
                if piece is not None or self.waiting:
                    return piece
            elif cut is None and not self._path_is_another():
                return self._finish_quiet()
            if not self._go_on(cut):
                return None
        self.waiting = True  # Somebody renames faster than we look: the next step sees what is.
        return None

    def _read(self) -> tuple[Piece | None, Reading | None]:
        """Return the next lines, or which file was truncated, or neither."""
        for reading in self._readings:
            first = reading.unread and reading is self._readings[-1] and not self._more
            try:
                chunk = reading.read()
            except Truncated:
                return None, reading
            except OSError as error:
                raise ExitError(
                    Exit.FAILED,
                    f"cannot read {reading.name}: {error.strerror}; mend that and start it again",
                ) from error
            if chunk is not None and first and not self._nothing_before(reading):
                return (None, None) if self.waiting else self._read()
            if chunk is not None:
                reading.quiet_since = None
                return Piece(reading, chunk), None
        return None, None

    def _nothing_new_beside(self) -> bool:
        """Look for what was copied away while nothing of the newest file was read."""
        if self._more or not self._readings or not self._readings[-1].unread:
            return True
        changed = directory_mtime_ns(self.path)
        if changed != self._directory_ns:
            if not self._go_on(None):
                return False
            self._directory_ns = changed
        return True

    def _nothing_before(self, reading: Reading) -> bool:
        """Whether the bytes that were read are a file's first ones: else they are read again."""
        count = len(self._readings)
        if self._go_on(None) and len(self._readings) == count:
            return True
        reading.rewind()
        return False

    def _finish_quiet(self) -> Piece | None:
        """End generations that were rotated away and have been quiet; return a last half line."""
        now = self._clock()
        for reading in self._readings[:-1]:
            reading.quiet_since = now if reading.quiet_since is None else reading.quiet_since
            crowded = len(self._readings) > READINGS_MAX and reading is self._readings[0]
            if now - reading.quiet_since < LINGER_S and not crowded:
                continue
            if not reading.drained:
                return Piece(reading, reading.finish())
            if reading.generation.position == reading.next_line:
                self._end(reading)
                return None
        return None

    def _end_oldest(self) -> Piece | None:
        """Make room for one more if there is none; return a last half line."""
        reading = self._readings[0]
        if len(self._readings) < READINGS_MAX:
            return None
        if not reading.drained:
            return Piece(reading, reading.finish())
        if reading.generation.position == reading.next_line:
            self._end(reading)
        else:
            self.waiting = True
        return None

    def _end(self, reading: Reading) -> None:
        reading.generation.read_out = reading.generation.done = self._dirty = True
        reading.close()
        self._readings.remove(reading)

    # --- which files -------------------------------------------------------------------------

    def _begin(self) -> bool:
        """Find what is known, and what came after it."""
        scanned = self._scan()
        if scanned is None:
            return False
        entries, current = scanned
        base = os.path.basename(self.path)
        if self._fresh:
            # What was rotated away before the first start is not read, and known from now on.
            before = oldest_first([one for one in entries if is_rotated(one.name, base)], base)
            self._positions.generations = [_known(one) for one in before[-KNOWN_MAX:]]
            self._fresh = False
        if self._power_cut:
            self._mend_power_cut([*entries, *([current] if current else [])])
        found = look(self._positions.generations, entries, current, base, same, copied)
        self._revive(found, current)
        opened: list[Reading] = []
        for generation in self._positions.generations:
            entry = found.placed.get(generation.token)
            if entry is None or generation.done:
                continue
            reading = self._open(entry, generation)
            if reading is None:
                for one in opened:
                    one.close()
                return False
            opened.append(reading)
        self._readings = opened
        self._positions.generations = [
            one for one in self._positions.generations if one.token in found.placed
        ]
        self._tell_lost(found.lost, entries)
        self._begun = True
        self.save()
        self._open_new(found)
        if not os.access(os.path.dirname(self.path), os.R_OK):
            self._tell(
                f"cannot list {os.path.dirname(self.path)}: files that are rotated away while this"
                " does not run will not be found"
            )
        if current is None:
            self._tell_once(f"{self.path} is not there yet; waiting for it")
        return True

    def _mend_power_cut(self, entries: list[Entry]) -> None:
        """Go on with files whose ends were not on the disk yet when everything stopped."""
        for at, generation in enumerate(self._positions.generations):
            if generation.done:
                continue
            for entry in entries:
                mended = after_power_cut(generation, entry)
                if mended is not None:
                    self._positions.generations[at] = mended
                    self._tell(
                        f"{entry.path} is not as it was read: a power cut took its end; going on at"
                        f" byte {mended.position}"
                    )
                    break

    def _path_is_another(self) -> bool:
        """Whether another file is at the path by now."""
        current = current_entry(self.path)
        if current is None:
            return False
        if not self._readings:
            return True
        newest = self._readings[-1]
        # The inode of an open file is nobody else's.
        if not newest.is_of(current):
            return True
        if not newest.unread:  # What was copied from it must not seem to be older than it.
            newest.generation.mtime_ns = current.mtime_ns
        return False

    def _go_on(self, cut: Reading | None) -> bool:
        """Open what rotation has brought; `cut` is the reading that was truncated, if one was."""
        scanned = self._scan()
        if scanned is None:
            return False
        entries, current = scanned
        base = os.path.basename(self.path)

        def agreeing(generation: Generation, entry: Entry) -> bool:
            is_cut = cut is not None and generation is cut.generation
            reading = next((one for one in self._readings if one.generation is generation), None)
            is_it = entry.inode == generation.inode
            if is_it and reading is not None and (is_cut or not reading.is_of(entry)):
                return False
            return same(generation, entry)

        found = look(self._positions.generations, entries, current, base, agreeing, copied)
        if cut is not None:
            copy = found.placed.get(cut.generation.token)
            reading = self._open(copy, cut.generation) if copy is not None else None
            if copy is not None and reading is None:
                return False
            if reading is None:
                self._tell(f"{cut.name} was truncated: it is read from its beginning")
                self._end(cut)
            else:
                self._readings[self._readings.index(cut)] = reading
                cut.close()
        if not self._open_new(found):
            return False
        generation = self._revive(found, current)
        return current is None or generation is None or self._make_newest(generation, current)

    def _revive(self, found: Found, current: Entry | None) -> Generation | None:
        """Return the generation that is at the path, now the newest one, if it is a known one."""
        known = self._positions.generations
        for generation in known:
            if current is not None and found.placed.get(generation.token) == current:
                known.remove(generation)
                known.append(generation)
                generation.done = generation.read_out = False
                return generation
        return None

    def _make_newest(self, generation: Generation, current: Entry) -> bool:
        """Go on with a file that was rotated away and is at the path again."""
        reading = next((one for one in self._readings if one.generation is generation), None)
        if reading is None or not reading.is_of(current):
            opened = self._open(current, generation)
            if opened is None:
                return False
            if reading is not None:
                self._readings.remove(reading)
                reading.close()
            reading = opened
        else:
            self._readings.remove(reading)
        self._readings.append(reading)
        return True

    def _open_new(self, found: Found) -> bool:
        # There is one kind or the other.
        if found.before:
            return self._open_unseen(found.before, before=1)
        return self._open_unseen(found.unseen)

    def _open_unseen(self, unseen: list[Entry], before: int = 0) -> bool:
        """Open new generations, oldest first, as many as may be open; return whether that went."""
        self._more = False
        for entry in unseen:
            if len(self._readings) >= READINGS_MAX:
                self._more = True
                return True
            generation = new_generation(entry.inode, os.path.dirname(os.path.realpath(entry.path)))
            reading = self._open(entry, generation)
            if reading is None:
                return False
            generation.mtime_ns = entry.mtime_ns
            known = self._positions.generations
            known.insert(len(known) - before, generation)
            self._readings.insert(len(self._readings) - before, reading)
        done = [one for one in self._positions.generations if one.done]
        for generation in done[:-KNOWN_MAX]:
            self._positions.generations.remove(generation)
        return True

    def _open(self, entry: Entry, generation: Generation) -> Reading | None:
        """Open a generation; None if another file has its name by now."""
        try:
            file = open_file(entry.path)
        except FileNotFoundError:
            self.waiting = True
            return None
        found = os.fstat(file)
        is_other = (found.st_dev, found.st_ino) != (entry.device, entry.inode)
        if is_other or not agrees(generation, file):
            os.close(file)
            self.waiting = True
            return None
        generation.inode = entry.inode
        return Reading(generation, file, entry.path)

    def _scan(self) -> tuple[list[Entry], Entry | None] | None:
        known = self._positions.generations
        inodes = {one.inode for one in known}
        scanned = scan({one.directory for one in known}, self.path, inodes)
        self.waiting = scanned is None
        return scanned

    # --- telling -----------------------------------------------------------------------------

    def _tell_lost(self, lost: list[Generation], entries: list[Entry]) -> None:
        base = os.path.basename(self.path)
        packed = [one.name for one in entries if is_compressed(one.name, base)]
        for generation in lost:
            self.lost += 1
            hint = (
                f"it may be in {', '.join(packed[:3])}, which cannot be read here"
                if packed
                else "it was removed, truncated or moved elsewhere"
            )
            self._tell(
                f"LINES MAY BE MISSING: the rest of {self.path} after byte {generation.position} is"
                f" not there: {hint}"
            )

    def _tell_once(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            self._tell(message)

    # --- positions ---------------------------------------------------------------------------

    @property
    def has_file(self) -> bool:
        """Whether anything is open."""
        return bool(self._readings)

    def before_offer(self, reading: Reading) -> None:
        """Make durable by what the file is known again, before its lines are offered."""
        if reading.note_head():
            self.save()

    def settled(self, generation: Generation, mark: Mark, seq: int = 0) -> None:
        """All lines before the mark have a verdict; `seq` is a late one's, if it is known."""
        self._positions.seq = seq or self._positions.seq
        if mark.position >= generation.position:
            generation.position, generation.tail = mark
            self._dirty = True

    def save_if_due(self) -> None:
        """Save, if there is something new, and not too often."""
        if self._dirty and self._clock() - self._saved_at >= SAVE_S:
            self.save()

    def save(self, *, clean: bool = False) -> None:
        """Save all positions."""
        for reading in self._readings[:-1]:
            one = reading.generation
            one.read_out = reading.drained and one.position == reading.next_line
        self._positions.clean = clean
        self._file.save(self._positions)
        self._dirty = False
        self._saved_at = self._clock()

    def close(self, *, clean: bool) -> None:
        """Save, and let another one follow."""
        if self._begun:
            self.save(clean=clean)
        for reading in self._readings:
            reading.close()
        self._file.close()


def _known(entry: Entry) -> Generation:
    """Return what stands for a file that is not to be read."""
    found = new_generation(entry.inode, os.path.dirname(entry.path))
    found.mtime_ns = entry.mtime_ns
    found.read_out = found.done = True
    try:
        file = open_file(entry.path)
    except (OSError, ExitError):
        return found
    head = os.pread(file, HEAD_BYTES, 0)
    os.close(file)
    found.head_bytes, found.head = len(head), digest(head)
    return found


def _check_known(known: Positions, path: str, manner: Manner, file: PositionFile) -> None:
    if known.path != path:
        raise ExitError(
            Exit.CONFIGURATION,
            f"cannot go on from {file.file}: it is of {known.path}; give another --state",
        )
    if known.manner != manner and not known.clean:
        was = known.manner
        subject = f" --subject {was.subject}" if was.subject else ""
        form = " --json-lines" if was.json_lines else ""
        raise ExitError(
            Exit.CONFIGURATION,
            f"cannot follow {path} in another manner: the last run did not end cleanly, and what"
            f" it had offered is known only with --type {was.type} --source {was.source}{subject}"
            f"{form}; run it once more so, with --once, then change",
        )
