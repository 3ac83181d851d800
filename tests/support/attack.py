"""What an attack on a promise reports: how often it struck, amid what, and what it cost.

Every attack test takes the fixture ``attack``: its seed (``--seed``), its size (``--attack fast``
in ``make test``, ``full`` in ``make crash``), and where it puts its row of the closing table.
"""

import itertools
import random
from dataclasses import dataclass, fields

import pytest

HARM = ("lost", "doubled", "reordered", "hung")


@dataclass(frozen=True)
class Outcome:
    """One row of the table. The last four must be 0.

    Args:
        attack: what was done, a few words.
        cases: how often it struck; a strike that met no work under way does not count.
        acknowledged: events that their producers were told are durable, over all cases.
        in_flight: the fewest events that were appended and not settled when it struck.
        lost: acknowledged events that are nowhere, or come back with other bytes.
        doubled: events that are there more than once.
        reordered: events of one producer that are there in another order than it appended them.
        hung: cases that did not come to an end within their time.
    """

    attack: str
    cases: int
    acknowledged: int = 0
    in_flight: int = 0
    lost: int = 0
    doubled: int = 0
    reordered: int = 0
    hung: int = 0


class Attack:
    """The means of one attack test."""

    def __init__(self, *, full: bool, seed: int, name: str, outcomes: list[Outcome]) -> None:
        self.full = full
        self.seed = seed
        self.rng = random.Random(f"{seed} {name}")
        self._outcomes = outcomes

    def cases(self, fast: int, full: int) -> int:
        """How many cases to try."""
        return full if self.full else fast

    def report(self, outcome: Outcome) -> None:
        """Put a row into the table; fails the test if the attack did any harm."""
        self._outcomes.append(outcome)
        harm = {name: getattr(outcome, name) for name in HARM if getattr(outcome, name)}
        assert not harm, f"{outcome.attack}: {harm} (--seed {self.seed} repeats it)"
        assert outcome.cases > 0, f"{outcome.attack}: it never struck"


@dataclass(frozen=True)
class Verdict:
    """What became of acknowledged events, as an oracle sees it."""

    lost: int
    doubled: int
    reordered: int


def compare(acknowledged: list[int], found: list[int], *, also: set[int] | None = None) -> Verdict:
    """Compare one producer's acknowledged numbers, in its order, with what is there, in log order.

    Args:
        acknowledged: numbers whose durability was told, ascending.
        found: numbers that are there.
        also: numbers that may be there or not: never acknowledged, never refused.
    """
    known = set(found)
    unknown = known - set(acknowledged) - (also or set())
    assert not unknown, f"events that nobody appended, or that were refused: {sorted(unknown)[:9]}"
    steps = itertools.pairwise(found)
    return Verdict(
        lost=len(set(acknowledged) - known),
        doubled=len(found) - len(known),
        reordered=sum(later < earlier for earlier, later in steps),
    )


def table(outcomes: list[Outcome]) -> list[str]:
    """The closing table, one line a row."""
    names = [field.name for field in fields(Outcome)]
    rows = [[name.replace("_", " ") for name in names]]
    for outcome in outcomes:
        values = [getattr(outcome, name) for name in names]
        rows.append([v if isinstance(v, str) else f"{v:,}" for v in values])
    widths = [max(len(row[column]) for row in rows) for column in range(len(names))]
    return [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        )
        for row in rows
    ]


def outcomes_of(config: pytest.Config) -> list[Outcome]:
    """All rows of this run."""
    return config.stash.setdefault(_OUTCOMES, [])


_OUTCOMES: pytest.StashKey[list[Outcome]] = pytest.StashKey()
