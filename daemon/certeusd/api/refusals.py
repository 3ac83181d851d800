"""What an encoder refused, by runs: a body of nothing else is as cheap as any other."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

STEP = 4096
"""So many at a time; then others have their turn."""


class Refusal(NamedTuple):
    """Events in a row that the encoder refused."""

    first: int
    """Index of the first in its part."""
    length: int
    reason: str


async def by_runs(refused: Sequence[tuple[int, str]], runs_max: int) -> list[Refusal]:
    """Merge what follows one another.

    Args:
        refused: index and reason of each, ascending.
        runs_max: behind so many runs a reason makes no difference.
    """
    runs = list[Refusal]()
    index = count = 0
    reason = ""
    for begin in range(0, len(refused), STEP):
        for at, why in refused[begin : begin + STEP]:
            if count and at == index + count and (why == reason or len(runs) > runs_max):
                count += 1
                continue
            if count:
                runs.append(Refusal(index, count, reason))
            index, count, reason = at, 1, why
        if begin + STEP < len(refused):
            await asyncio.sleep(0)
    if count:
        runs.append(Refusal(index, count, reason))
    return runs
