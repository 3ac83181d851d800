"""Where a reader has to begin for a number, and why a number is not there."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from certeusd._native import LogReader

_WHAT = {
    "trimmed": "trimmed: every required follower has it, and its segment is gone",
    "not-yet": "not yet: the log ends before it",
    "damaged": "damaged: the bytes that held it cannot be read; run certeus log check",
    "lost": "lost: a start found the log shorter than what was acknowledged",
    "missing-segment": "missing-segment: a segment file is not there",
    "foreign-segment": "foreign-segment: another log's file stood in its place",
    "unknown-kind": "unknown-kind: a record that this version skips",
}


@dataclass(frozen=True)
class Missing:
    """Numbers that the log does not hold, both included."""

    first_seq: int
    last_seq: int
    reason: str

    def described(self) -> dict[str, object]:
        """Return the range, the stable word, and what it means."""
        return {"first_seq": self.first_seq, "last_seq": self.last_seq, "reason": self.reason,
                "what": _WHAT.get(self.reason, self.reason)}  # fmt: skip


def reader_near(directory: Path, seq: int) -> "tuple[LogReader, int, int]":
    """Return a reader at or before `seq`, the oldest number that is held, and the last one."""
    from certeusd.log.reader import LogReader

    reader = LogReader(directory)
    segments = reader.segments()
    held = [one for one in segments if one["groups"]]
    oldest = reader.oldest()
    begin = oldest["before_next_seq"] if oldest else 1
    last = max((one["last_seq"] for one in held), default=begin - 1)
    place = next((one for one in reversed(held) if one["first_seq"] <= seq), None)
    place = place or (held[0] if held else None)
    if place is not None and place["first_group"] > 1:
        reader.seek(place["first_group"] - 1, place["first_seq"] - 1, bytes(32))
    return reader, begin, last


def why_missing(directory: Path, seq: int, to: int) -> Missing:
    """Say why `seq`, which no whole group holds, is missing, and up to which number it is so."""
    reader, begin, last = reader_near(directory, seq)
    if seq < begin:
        return Missing(seq, min(to, begin - 1), "trimmed")
    if seq > last:
        return Missing(seq, to, "not-yet")
    while (batch := reader.next_batch(last, 4096, 1 << 22)) is not None:
        for first, end, reason in batch.gaps:
            if first <= seq <= end:
                return Missing(seq, min(to, end), reason)
        if batch.last_seq >= seq:
            break
    return Missing(seq, seq, "damaged")
