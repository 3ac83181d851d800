"""More and more, until something gives: which stage, and at what rate.

Producers climb stairs of rates that were fixed before, and the watcher looks at each step when it
is over, without its first part, in which the step before may still be felt. A stage has given if it
did in two steps in a row, of which the first is told. That ends the load; with ``through``, it goes
on when only PostgreSQL is left behind, until events do not become durable as fast as they are due.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

from certeus_bench.load.progress import Page
from certeus_bench.load.sampling import Sample
from certeus_bench.load.schedule import Stairs
from certeus_bench.load.stages import Gave, Rates, Stage, gave, rates

SKIPPED_SHARE = 0.2
SAMPLES_MIN = 4


class Step(NamedTuple):
    """One rate, and what it did to the stages."""

    target_per_second: float
    samples: Sequence[Sample]
    gave: list[Gave]

    @property
    def rates(self) -> Rates:
        """What happened in it."""
        return rates(self.samples[0], self.samples[-1])


def steps(stairs: Stairs, samples: Sequence[Sample]) -> list[Step]:
    """The steps that are over, of the samples so far."""
    found: list[Step] = []
    for number, target in enumerate(stairs.rates_per_second):
        end_s = (number + 1) * stairs.step_seconds
        begin_s = end_s - stairs.step_seconds * (1 - SKIPPED_SHARE)
        inside = [sample for sample in samples if begin_s <= sample.at_s <= end_s]
        if not samples or samples[-1].at_s < end_s or len(inside) < SAMPLES_MIN:
            break
        found.append(Step(target, inside, gave(inside)))
    return found


def first_to_give(done: Sequence[Step]) -> list[tuple[Step, Gave]]:
    """Of the line until the verdict, and of PostgreSQL, the step in which it gave and held no more.

    Which stage of the line is the narrowest may differ in the step after.
    """
    found: dict[bool, tuple[Step, Gave]] = {}
    for step, after in pairwise(done):
        again = {_is_behind(given) for given in after.gave}
        for given in step.gave:
            if _is_behind(given) in again:
                found.setdefault(_is_behind(given), (step, given))
    return list(found.values())


def is_over(done: Sequence[Step], *, through: bool) -> bool:
    """Whether it is known what was asked."""
    return any(not (through and _is_behind(given)) for _, given in first_to_give(done))


def _is_behind(given: Gave) -> bool:
    """Whether events become durable all the same."""
    return given.stage is Stage.POSTGRES


class Watch:
    """Looks at each sample as it comes, and ends the load when it is over."""

    def __init__(self, stairs: Stairs, *, through: bool, told: Callable[[Step], None]) -> None:
        self._stairs = stairs
        self._through = through
        self._told = told
        self._count = 0

    def __call__(self, samples: list[Sample], page: Page) -> None:
        """Be shown all samples so far."""
        if page.is_stopped():
            return
        done = steps(self._stairs, samples)
        for step in done[self._count :]:
            self._told(step)
        self._count = len(done)
        if is_over(done, through=self._through):
            page.stop()
