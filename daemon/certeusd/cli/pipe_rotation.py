"""Which files to read after a rotation, and in which order: pure bookkeeping.

What is known are generations (`pipe_positions`) and what a directory holds. A generation is found
by its inode if the content agrees, else by its content alone in a file with a rotated name: that is
how the copy of `copytruncate` goes on where the original was. Files with a rotated name that are
not known, and were written after the newest known one, are generations that nobody has seen; their
order is that of their last writes, then that of their names.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

from certeusd.cli.pipe_positions import HEAD_BYTES, Generation

COMPRESSED = (".gz", ".xz", ".bz2", ".zst", ".lz4", ".Z")
_NUMBER = r"[.\-_]\d[\d.\-_T:]*"
_DATE_DIGITS_MIN = 4


class Entry(NamedTuple):
    """A regular file of the directory."""

    path: str
    name: str
    inode: int
    size: int
    mtime_ns: int
    device: int = 0


class Found(NamedTuple):
    """What to read."""

    placed: dict[str, Entry]
    """Generations that are there, by token."""
    unseen: list[Entry]
    """To be read from their beginnings, oldest first."""
    before: list[Entry]
    """As `unseen`, and to be read before the newest generation, of which nothing was read."""
    lost: list[Generation]
    """Not there, and perhaps not read to their end."""


Same = Callable[[Generation, Entry], bool]
Copied = Callable[[Entry, Entry], bool]


def is_rotated(name: str, base: str) -> bool:
    """Whether `name` is what rotation makes of `base`: access.log.1, access-20261122.log, ...

    Before the extension a number may be part of another log's name, as in worker-2.log: there it
    is a rotation only as `.N`, or if it can be a date.
    """
    if re.fullmatch(re.escape(base) + _NUMBER, name):
        return True
    stem, dot, extension = base.rpartition(".")
    found = re.fullmatch(f"{re.escape(stem)}({_NUMBER}){re.escape(dot + extension)}", name)
    if not stem or found is None:
        return False
    digits = sum(one.isdigit() for one in found[1])
    return digits >= _DATE_DIGITS_MIN or re.fullmatch(r"\.\d+", found[1]) is not None


def is_compressed(name: str, base: str) -> bool:
    """Whether `name` is a rotated file that cannot be read."""
    return any(
        name.endswith(end) and is_rotated(name.removesuffix(end), base) for end in COMPRESSED
    )


def rank(name: str, base: str) -> int:
    """Return the N of `base.N`, which grows with age; 0 for other names."""
    number = name.removeprefix(base + ".")
    # What has more digits is a date, and dates grow the other way.
    return int(number) if number != name and number.isdigit() and len(number) < 5 else 0


def oldest_first(entries: Sequence[Entry], base: str) -> list[Entry]:
    """Order rotated files by their last writes, then by their names."""
    return sorted(entries, key=lambda one: (one.mtime_ns, -rank(one.name, base), one.name))


def look(
    generations: Sequence[Generation],
    entries: Sequence[Entry],
    current: Entry | None,
    base: str,
    same: Same,
    copied: Copied,
) -> Found:
    """Find the generations, and the files between them and the one at the path.

    Args:
        generations: Oldest first.
        entries: Files of the directories, without `current`.
        current: The file at the path, if there is one.
        base: The path's last part.
        same: Whether the content of a file agrees with a generation.
        copied: Whether a file is a copy of all that another one has, or had a moment ago.
    """
    everything = [*entries, *([current] if current else [])]
    placed: dict[str, Entry] = {}
    for generation in reversed(generations):
        for entry in everything:
            if entry.inode == generation.inode and entry not in placed.values():
                # Of an empty file that was done with, only the inode is known.
                other = generation.done and not generation.head_bytes and entry.size
                if not other and entry.size >= generation.position and same(generation, entry):
                    placed[generation.token] = entry
                break
    rotated = oldest_first([one for one in entries if is_rotated(one.name, base)], base)
    lost: list[Generation] = []
    for generation in generations:
        if generation.token in placed or generation.done:
            continue
        copy = _copy_of(generation, rotated, list(placed.values()), same)
        if generation is generations[-1] and _put_back(generation, current, placed, same):
            copy = current
        if copy is not None:
            placed[generation.token] = copy
        elif not generation.read_out:
            lost.append(generation)
    unseen = _unseen(generations, rotated, current, base, placed)
    before: list[Entry] = []
    if current is not None and generations and placed.get(generations[-1].token) == current:
        # Of what was not read nothing tells whether it was copied away and cut.
        if not generations[-1].head_bytes:
            before = [one for one in unseen if not copied(one, current)]
        unseen = []
    return Found(placed, unseen, before, lost)


def _copy_of(
    generation: Generation, later: Sequence[Entry], taken: Sequence[Entry], same: Same
) -> Entry | None:
    """Find the file that begins as a generation does: the first one written after it."""
    if not generation.head_bytes:
        return None  # Nothing of it was offered: a copy is like any file that nobody has seen.
    for entry in later:
        fits = entry.mtime_ns >= generation.mtime_ns and entry.size >= generation.position
        if fits and entry not in taken and same(generation, entry):
            return entry
    return None


def _put_back(
    generation: Generation, current: Entry | None, placed: dict[str, Entry], same: Same
) -> bool:
    """Whether the file at the path is the newest generation under another inode.

    That needs more than a few equal bytes: programs may begin each file with the same line.
    """
    if current is None or not generation.head_bytes or current in placed.values():
        return False
    sure = generation.head_bytes >= HEAD_BYTES or generation.mtime_ns == current.mtime_ns
    return sure and current.size >= generation.position and same(generation, current)


def _unseen(
    generations: Sequence[Generation],
    rotated: Sequence[Entry],
    current: Entry | None,
    base: str,
    placed: dict[str, Entry],
) -> list[Entry]:
    taken = list(placed.values())
    fresh = [current] if current is not None and current not in taken else []
    if not generations:
        return [*rotated, *fresh]  # What was there before the first start is a generation.
    newest = generations[-1]
    found = placed.get(newest.token)
    number = rank(found.name, base) if found is not None else 0
    later = [
        one
        for one in rotated
        if one not in taken
        and one.mtime_ns >= newest.mtime_ns
        and (not number or not rank(one.name, base) or rank(one.name, base) < number)
    ]
    return [*later, *fresh]
