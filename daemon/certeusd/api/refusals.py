"""What an encoder refused, by runs: a body of nothing else is as cheap as any other."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Refusal(NamedTuple):
    """Events in a row that the encoder refused."""

    first: int
    """Index of the first in its part."""
    length: int
    reason: str


def by_runs(refused: Iterable[tuple[int, str]]) -> Iterator[Refusal]:
    """Merge what follows one another.

    Args:
        refused: of one part, so some thousands: index and reason of each, ascending.
    """
    index = count = 0
    reason = ""
    for at, why in refused:
        if count and at == index + count and why == reason:
            count += 1
            continue
        if count:
            yield Refusal(index, count, reason)
        index, count, reason = at, 1, why
    if count:
        yield Refusal(index, count, reason)
