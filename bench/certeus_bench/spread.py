"""How far a figure may be off, from one run alone or from several.

One run knows only the spread within itself. A rate's interval comes from resampling the series of
its intervals in blocks, which keeps what neighbours have in common. A percentile's comes from the
order of its times (the ranks between which it lies); that takes times to be independent, and in a
closed loop, where slow times also show as slow intervals, it is widened by as much as the rate's is
wider than independent times would make it. Both are honest about chance and blind to what differs
from run to run: where memory was placed, who else was on the machine. Several runs know that, and
then nothing else is used: the mean of the logarithms, with Student's t.

All intervals are at 99 %, since a run has some fifty figures. Everything is deterministic.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from certeus_bench import histogram
from certeus_bench.results import Loop, Measurement

Z = 2.576
"""Of the normal distribution, two-sided, 99 %."""
STUDENT = (63.66, 9.925, 5.841, 4.604, 4.032, 3.707, 3.499, 3.355, 3.250, 3.169)
"""The same of Student's t for 1 to 10 degrees of freedom; for more, that of 10 is wide enough."""
RESAMPLES = 2000
INTERVALS_MIN = 10
SEED = 20240229


class Interval(NamedTuple):
    """A figure lies in here."""

    low: float
    high: float


def of_percentile(measurement: Measurement, percentile: float) -> Interval | None:
    """Between which two times a percentile lies; None without times.

    Source: order statistics, e.g. Conover, "Practical Nonparametric Statistics", 3.2.
    """
    if measurement.histogram is None:
        return None
    steps = histogram.steps(histogram.decode(measurement.histogram))
    count = sum(times for _, times in steps)
    if not count:
        return None
    share = percentile / 100
    middle, width = count * share, Z * math.sqrt(count * share * (1 - share))
    width *= _clumping(measurement, np.array(steps, dtype=np.float64))
    ranks = np.cumsum([times for _, times in steps])
    wanted = math.floor(middle - width), math.ceil(middle + width) + 1
    at = [int(np.searchsorted(ranks, rank)) for rank in wanted]
    low, high = (steps[min(position, len(steps) - 1)][0] for position in at)
    return Interval(low, high)


def _clumping(measurement: Measurement, steps: npt.NDArray[np.float64]) -> float:
    """How many times wider the rate's interval is than independent times would make it, or 1."""
    rate = of_rate(measurement) if measurement.loop is Loop.CLOSED else None
    values, counts = steps[:, 0], steps[:, 1]
    mean = float(np.average(values, weights=counts))
    deviation = math.sqrt(float(np.average((values - mean) ** 2, weights=counts)))
    if rate is None or not deviation:
        return 1.0
    independent = 2 * Z * deviation / mean / math.sqrt(float(counts.sum()))
    seen = 2 * (rate.high - rate.low) / (rate.high + rate.low)
    return max(1.0, seen / independent)


def of_rate(measurement: Measurement) -> Interval | None:
    """Between which two rates the mean rate lies; None without a series that is long enough.

    Source: circular block bootstrap, Politis and Romano 1992.
    """
    series = np.array(measurement.intervals[:-1], dtype=np.float64)  # the last one may be cut
    count = len(series)
    if count < INTERVALS_MIN or measurement.interval_seconds <= 0:
        return None
    block = math.ceil(math.sqrt(count))
    starts = np.random.default_rng(SEED).integers(count, size=(RESAMPLES, math.ceil(count / block)))
    taken = (starts[:, :, np.newaxis] + np.arange(block)) % count
    means = series[taken.reshape(RESAMPLES, -1)[:, :count]].mean(axis=1)
    low, high = np.quantile(means, [0.005, 0.995]) / measurement.interval_seconds
    return Interval(float(low), float(high))


def of_ratio(base: Sequence[float], new: Sequence[float]) -> tuple[float, Interval]:
    """The ratio of two figures, each as several runs measured it, three at least in all.

    Both sides are taken to vary alike, so that one of them may be a single run.
    """
    befores, afters = np.log(np.array(base)), np.log(np.array(new))
    freedom = len(base) + len(new) - 2
    assert freedom >= 1, "two single runs say nothing of what differs from run to run"
    squares = np.sum((befores - befores.mean()) ** 2) + np.sum((afters - afters.mean()) ** 2)
    error = math.sqrt(float(squares) / freedom * (1 / len(base) + 1 / len(new)))
    middle = float(afters.mean() - befores.mean())
    width = STUDENT[min(freedom, len(STUDENT)) - 1] * error
    return math.exp(middle), Interval(math.exp(middle - width), math.exp(middle + width))
