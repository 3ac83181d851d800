"""One number out of a run's results: found by name, read, and set over another.

Results are found by name, by the first word of their system, and by settings. Only sound results
give numbers: one that is missing or an artifact raises `UnmeasuredError`, which says so.

Facts that are read: ``pss_bytes``, the memory of all processes under test.
"""

import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import NamedTuple

from certeus_bench import units
from certeus_bench.results import Label, Result, Run

Setting = str | int | float | bool
SAME_PAYLOAD = 0.10
"""Payloads of two systems may differ by so much, for what each adds of its own."""


class UnmeasuredError(Exception):
    """A figure is not there; the message says which, and why."""


class Of(NamedTuple):
    """Which results of a run."""

    name: str
    system: str = "certeus"
    settings: Mapping[str, Setting] = {}


class Value(NamedTuple):
    """A number, and how it came about."""

    number: float
    told: str


class Figure(NamedTuple):
    """One number of a result; ``read`` returns None where the result has none."""

    name: str
    read: Callable[[Result], float | None]
    show: Callable[[float], str]


def _p50(result: Result) -> float | None:
    return result.latency.p50_ns if result.latency else None


def _p99(result: Result) -> float | None:
    return result.latency.p99_ns if result.latency else None


def _rate(result: Result) -> float | None:
    return result.per_second


def _pss(result: Result) -> float | None:
    return result.measurement.facts.get("pss_bytes")


def _cpu_ns(result: Result) -> float | None:
    measured = result.measurement
    if measured.cpu_seconds is None or not measured.operations:
        return None
    return measured.cpu_seconds / measured.operations * 1e9


def _cpus(result: Result) -> float | None:
    measured = result.measurement
    if measured.cpu_seconds is None or measured.seconds <= 0:
        return None
    return measured.cpu_seconds / measured.seconds


def _cpus_said(value: float) -> str:
    return f"{units.number(value)} CPUs"


P50 = Figure("p50", _p50, units.time)
P99 = Figure("p99", _p99, units.time)
RATE = Figure("rate", _rate, units.rate)
CPU = Figure("CPU an operation", _cpu_ns, units.time)
CPUS = Figure("CPU", _cpus, _cpus_said)
PSS = Figure("PSS", _pss, units.size)


# --- finding results -----------------------------------------------------------------------------


def title(name: str, system: str, settings: Mapping[str, Setting] | None = None) -> str:
    """What was measured of whom, and how; also the keys of `Run.absent`."""
    told = ", ".join(f"{key} {value}" for key, value in (settings or {}).items())
    return f"{name} of {system}" + (f" ({told})" if told else "")


def untitled(key: str) -> tuple[str, str]:
    """Name and system of a `title`, the latter with the settings behind it."""
    name, _, system = key.partition(" of ")
    return name, system


def is_system(system: str, wanted: str) -> bool:
    """Whether a system, with its version or without, is the wanted one."""
    return system.casefold().startswith(wanted.casefold())


def find(run: Run, of: Of) -> list[Result]:
    """The results that fit; there is one, and all are sound, or `UnmeasuredError` says why not."""
    fits = [
        result
        for result in run.results
        if result.name == of.name
        and is_system(result.system, of.system)
        and not result.unsafe
        and all(result.settings.get(name) == value for name, value in of.settings.items())
    ]
    if not fits:
        raise UnmeasuredError(_why_missing(run, of))
    for result in fits:
        if result.label is not Label.SOUND:
            reasons = "; ".join(result.reasons)
            raise UnmeasuredError(f"{title(result.name, result.system)} is an artifact: {reasons}")
    return fits


def _why_missing(run: Run, of: Of) -> str:
    for key, why in run.absent.items():
        name, system = untitled(key)
        told = all(f"{setting} {value}" in system for setting, value in of.settings.items())
        if name == of.name and is_system(system, of.system) and told:
            return f"{title(*of)} is absent: {why}"
    return f"{title(*of)} was not measured"


def _number(result: Result, figure: Figure) -> float:
    value = figure.read(result)
    if value is None:
        raise UnmeasuredError(f"{title(result.name, result.system)} has no {figure.name}")
    return value


# --- values --------------------------------------------------------------------------------------

Values = Callable[[Run], list[Value]]
"""Every value that a run's results give; `UnmeasuredError` if they give none."""


def alone(figure: Figure, of: Of, scale: float = 1.0) -> Values:
    """A figure as it is, times ``scale``."""

    def values(run: Run) -> list[Value]:
        numbers = [_number(result, figure) for result in find(run, of)]
        said = f"{figure.name} of {of.name}:"
        return [Value(number * scale, f"{said} {figure.show(number)}") for number in numbers]

    return values


def over(figure: Figure, of: Of, base: Of, *, same: str = "", payload: bool = False) -> Values:
    """A figure of one result over that of another.

    ``same`` names a setting that both must share; with ``payload``, both must carry about as many
    bytes.
    """

    def fits(one: Result, other: Result) -> bool:
        if same and one.settings.get(same) != other.settings.get(same):
            return False
        ours, theirs = one.measurement.bytes_each, other.measurement.bytes_each
        return not payload or abs(ours - theirs) <= SAME_PAYLOAD * theirs

    def values(run: Run) -> list[Value]:
        ours, theirs = find(run, of), find(run, base)
        pairs = [(one, other) for one in ours for other in theirs if fits(one, other)]
        if not pairs:
            shared = f"setting {same}" if same else "payload"
            raise UnmeasuredError(f"{title(*of[:2])} and {title(*base[:2])} share no {shared}")
        return [_over(one, other, figure) for one, other in pairs]

    return values


def _over(one: Result, other: Result, figure: Figure) -> Value:
    upper, lower = _number(one, figure), _number(other, figure)
    if not lower:
        raise UnmeasuredError(f"{figure.name} of {title(other.name, other.system)} is 0")
    told = (
        f"{figure.name} of {title(one.name, one.system)}, {figure.show(upper)},"
        f" over that of {title(other.name, other.system)}, {figure.show(lower)}"
    )
    return Value(upper / lower, told)


def _series(run: Run, prefix: str, first: int, last: int) -> list[tuple[int, float]]:
    """Rates of certeus' results ``prefix``N, by N from ``first`` to ``last``, both included."""
    names = {result.name for result in run.results} | {untitled(key)[0] for key in run.absent}
    matches = [re.fullmatch(re.escape(prefix) + r"(\d+)", name) for name in names]
    numbers = {first, last} | {int(match[1]) for match in matches if match}
    return [
        (number, result.per_second)
        for number in sorted(numbers)
        if first <= number <= last
        for result in find(run, Of(f"{prefix}{number}"))
    ]


def loss(prefix: str, first: int, last: int) -> Values:
    """The largest share of the rate that is lost from a smaller number to any larger one."""

    def values(run: Run) -> list[Value]:
        (best_at, best), *more = _series(run, prefix, first, last)
        worst = Value(0.0, f"nothing is lost from {first} to {last}")
        for number, rate in more:
            lost = 1 - rate / best if best else 0.0
            if lost > worst.number:
                worst = Value(
                    lost, f"{units.rate(best)} with {best_at}, {units.rate(rate)} with {number}"
                )
            if rate > best:
                best_at, best = number, rate
        return [worst]

    return values


def rise(prefix: str, first: int, last: int) -> Values:
    """Bytes a second at each number of bytes, over those at the next smaller one."""

    def values(run: Run) -> list[Value]:
        series = [(number, number * rate) for number, rate in _series(run, prefix, first, last)]
        found: list[Value] = []
        for (small, before), (large, after) in pairwise(series):
            if not before:
                raise UnmeasuredError(f"{prefix}{small} of certeus is 0")
            told = (
                f"{units.size(after)}/s with {large:,} B, {units.size(before)}/s with {small:,} B"
            )
            found.append(Value(after / before, told))
        return found

    return values
