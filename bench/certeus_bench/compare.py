"""Tells a regression from noise, and a slower program from a slower machine.

Every figure is turned into slowness (a time as it is, a rate upside down), so that a ratio above
one is slower. A figure is slower or faster if its ratio is

- more than chance: one lies outside of its 99 % interval (`spread`), and
- worth mentioning: at least 5 % either way between several runs, at least 10 % between two single
  ones, which differ by so much for reasons that neither of them can know, and
- the program's own: where the floor below it (a bare sync, a bare COPY) changed as clearly, what
  remains after dividing by the floor's change is still worth mentioning.

What cannot be compared says why: another machine, other settings, an artifact, or one run a side of
a figure that has no spread of its own.
"""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple

from certeus_bench import figures, histogram, spread
from certeus_bench.figures import Figure, title
from certeus_bench.machine import IDENTITY
from certeus_bench.results import Label, Loop, Measurement, Result, Run
from certeus_bench.spread import Interval

EFFECT_MIN = 1.05
EFFECT_MIN_SINGLE = 1.10

Key = tuple[str, str, str]
"""Name, system, and settings as they are told."""


class Verdict(StrEnum):
    """What became of a figure."""

    SAME = "same"
    FASTER = "faster"
    SLOWER = "slower"
    NOT_COMPARABLE = "not comparable"


class Metric(NamedTuple):
    """A figure that is compared, what it is in one run, and how far it may be off there."""

    figure: Figure
    is_rate: bool
    within: Callable[[Measurement], Interval | None]


class Change(NamedTuple):
    """Slowness over slowness, where it lies if that is known, and from where on it is told."""

    ratio: float
    interval: Interval | None
    effect_min: float

    @property
    def is_large(self) -> bool:
        """Whether it is worth mentioning."""
        return not 1 / self.effect_min < self.ratio < self.effect_min

    @property
    def is_real(self) -> bool:
        """Whether it is more than chance."""
        return self.interval is not None and not self.interval.low <= 1 <= self.interval.high


class Row(NamedTuple):
    """One figure on both sides."""

    key: Key
    figure: Figure | None
    base: float | None
    new: float | None
    ratio: float | None
    """Slowness of the new side over that of the base."""
    interval: Interval | None
    floor_ratio: float | None
    verdict: Verdict
    why: str


class Comparison(NamedTuple):
    """All rows, and what must be said of all of them."""

    rows: list[Row]
    notes: list[str]

    @property
    def slower(self) -> list[Row]:
        """What got slower of certeus itself: a slower floor or peer is no fault of it."""
        return [
            row for row in self.rows if row.verdict is Verdict.SLOWER and row.key[1] == "certeus"
        ]


def _p50(measurement: Measurement) -> Interval | None:
    return spread.of_percentile(measurement, histogram.P50)


def _p99(measurement: Measurement) -> Interval | None:
    return spread.of_percentile(measurement, histogram.P99)


def _unknown(_: Measurement) -> Interval | None:
    return None


P50 = Metric(figures.P50, False, _p50)
P99 = Metric(figures.P99, False, _p99)
RATE = Metric(figures.RATE, True, spread.of_rate)
CPU = Metric(figures.CPU, False, _unknown)
PSS = Metric(figures.PSS, False, _unknown)

# group and metric: the floor below it, and its metric
FLOORS: dict[tuple[str, Metric], tuple[str, Metric]] = {
    ("ring", P50): ("floor/ping-pong", P50),
    ("ring", P99): ("floor/ping-pong", P50),
    ("ring", RATE): ("floor/memcpy", RATE),
    ("durable", P50): ("floor/fdatasync-4k", P50),
    ("durable", P99): ("floor/fdatasync-4k", P99),
    ("durable", RATE): ("floor/write", RATE),
    ("http", P50): ("floor/fdatasync-4k", P50),
    ("http", P99): ("floor/fdatasync-4k", P99),
    ("postgres", P50): ("floor/copy", RATE),
    ("postgres", P99): ("floor/copy", RATE),
    ("postgres", RATE): ("floor/copy", RATE),
}


class Side:
    """The runs before, or those after."""

    def __init__(self, runs: Sequence[Run]) -> None:
        assert runs, "a side has a run at least"
        self.runs = runs
        self.results: dict[Key, list[Result]] = {}
        for run in runs:
            for result in run.results:
                self.results.setdefault(_key(result), []).append(result)

    def sound(self, key: Key) -> list[Result]:
        """The results that count."""
        return [one for one in self.results.get(key, []) if one.label is Label.SOUND]

    def floors(self, name: str, settings: str) -> list[Result]:
        """Sound results of a floor; where it was measured with settings, only those that fit."""
        return [
            one
            for key in self.results
            if key[0] == name and key[2] in ("", settings)
            for one in self.sound(key)
        ]


def compare(base: Side, new: Side) -> Comparison:
    """Every figure that both sides have."""
    notes = [_other_machine(base, new)]
    if len(base.runs) == len(new.runs) == 1:
        notes.append(
            "one run a side: what differs from run to run is not known; less than 10 % is called"
            " the same, and more is worth several runs a side"
        )
    notes += _one_sided(base, new)
    rows: list[Row] = []
    for key in base.results:
        if key in new.results:
            rows += _rows(key, base, new, notes[0])
        else:
            rows += _other_settings(key, new)
    return Comparison(rows, [note for note in notes if note])


def _rows(key: Key, base: Side, new: Side, obstacle: str) -> list[Row]:
    obstacle = obstacle or _obstacle(key, base, new)
    if obstacle:
        return [_incomparable(key, obstacle)]
    befores, afters = base.sound(key), new.sound(key)
    return [
        _row(key, metric, base, new)
        for metric in _metrics(befores[0])
        if all(metric.figure.read(one) for one in [*befores, *afters])
    ]


def _metrics(result: Result) -> list[Metric]:
    """What of a result is worth comparing: in an open loop the clock decides the rate."""
    measured = result.measurement
    times = [P50, P99] if measured.histogram else []
    rate = [RATE] if measured.operations and measured.loop is Loop.CLOSED else []
    return [*times, *rate, CPU, PSS]


def _row(key: Key, metric: Metric, base: Side, new: Side) -> Row:
    befores, afters = base.sound(key), new.sound(key)
    change = _change(metric, befores, afters)
    floor = _floor(key, metric, base, new)
    verdict, why = _judge(change, floor)
    return Row(
        key, metric.figure, _mean(metric, befores), _mean(metric, afters), change.ratio,
        change.interval, floor.ratio if floor else None, verdict, why,
    )  # fmt: skip


def _judge(change: Change, floor: Change | None) -> tuple[Verdict, str]:
    ratio, interval, effect = change
    if not change.is_large:
        return Verdict.SAME, ""
    if interval is None:
        return Verdict.NOT_COMPARABLE, "one run a side says nothing of its noise: measure several"
    if not change.is_real:
        return Verdict.SAME, "within what chance does"
    slower = ratio > 1
    if floor is not None and floor.is_large and floor.is_real:
        own = ratio / floor.ratio
        if own < effect if slower else own > 1 / effect:
            return Verdict.SAME, f"the machine is {'slower' if slower else 'faster'}, by its floor"
    return (Verdict.SLOWER if slower else Verdict.FASTER), ""


def _change(metric: Metric, befores: Sequence[Result], afters: Sequence[Result]) -> Change:
    """Slowness over slowness, and where it lies; None where nothing is known of that."""
    sides = [[_slowness(metric, one) for one in side] for side in (befores, afters)]
    if len(befores) + len(afters) > 2:
        return Change(*spread.of_ratio(*sides), EFFECT_MIN)
    ratio = sides[1][0] / sides[0][0]
    before, after = (metric.within(one.measurement) for one in (befores[0], afters[0]))
    if before is None or after is None or not min(*before, *after) > 0:
        return Change(ratio, None, EFFECT_MIN_SINGLE)
    if metric.is_rate:
        before, after = after, before
    interval = Interval(after.low / before.high, after.high / before.low)
    return Change(ratio, interval, EFFECT_MIN_SINGLE)


def _slowness(metric: Metric, result: Result) -> float:
    value = metric.figure.read(result)
    assert value, "only figures that all results have are compared"
    return 1 / value if metric.is_rate else value


def _mean(metric: Metric, results: Sequence[Result]) -> float:
    values = [metric.figure.read(result) or 0.0 for result in results]
    return sum(values) / len(values)


def _floor(key: Key, metric: Metric, base: Side, new: Side) -> Change | None:
    """What became of the floor below a figure, where both sides measured it."""
    found = FLOORS.get((key[0].partition("/")[0], metric))
    if found is None:
        return None
    name, floor_metric = found
    befores, afters = base.floors(name, key[2]), new.floors(name, key[2])
    if not befores or not afters:
        return None
    if not all(floor_metric.figure.read(one) for one in [*befores, *afters]):
        return None
    return _change(floor_metric, befores, afters)


# --- what cannot be compared ---------------------------------------------------------------------


def _key(result: Result) -> Key:
    told = ", ".join(f"{name} {value}" for name, value in sorted(result.settings.items()))
    return result.name, result.system, told


def _incomparable(key: Key, why: str) -> Row:
    return Row(key, None, None, None, None, None, None, Verdict.NOT_COMPARABLE, why)


def _other_machine(base: Side, new: Side) -> str:
    machines = [run.machine for run in [*base.runs, *new.runs]]
    for name in IDENTITY:
        values = dict.fromkeys(str(machine.get(name, "not told")) for machine in machines)
        if len(values) > 1:
            return f"another machine: {name} is {' and '.join(values)}"
    return ""


def _obstacle(key: Key, base: Side, new: Side) -> str:
    for which, side in (("base", base), ("new", new)):
        if not side.sound(key):
            reasons = side.results[key][0].reasons
            return f"only artifacts on the {which} side: {'; '.join(reasons)}"
    measured = [one.measurement for side in (base, new) for one in side.sound(key)]
    for name in ("bytes_each", "loop", "concurrency"):
        values = dict.fromkeys(str(getattr(one, name)) for one in measured)
        if len(values) > 1:
            return f"{name} is {' and '.join(values)}"
    return ""


def _other_settings(key: Key, new: Side) -> list[Row]:
    """A result that the other side has with other settings only."""
    others = [other[2] or "none" for other in new.results if other[:2] == key[:2]]
    if not others:
        return []
    return [_incomparable(key, f"settings are {key[2] or 'none'} and {' or '.join(others)}")]


def _one_sided(base: Side, new: Side) -> list[str]:
    """What only one side measured."""
    names = [{key[:2] for key in side.results} for side in (base, new)]
    notes: list[str] = []
    for which, only in (("base", names[0] - names[1]), ("new", names[1] - names[0])):
        if only:
            told = ", ".join(title(*one) for one in sorted(only))
            notes.append(f"only on the {which} side: {told}")
    return notes
