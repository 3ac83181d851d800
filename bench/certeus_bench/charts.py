"""Charts as inline SVG: axes with units, lines that a style sheet colours, nothing to run.

A chart is drawn in units of about a pixel on a telephone and scales with the page; colours are
classes (``s0`` is certeus, ``floor`` a floor), so that a page is readable in the dark and on paper.
"""

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

from certeus_bench import units

WIDTH, HEIGHT = 440, 264
LEFT, RIGHT, TOP, BOTTOM = 58, 16, 28, 42
TICKS = 5

Point = tuple[float, float]


class Line(NamedTuple):
    """One series: its classes, its points, and the band from its lowest to its highest values."""

    kind: str
    points: list[Point]
    band: Sequence[tuple[float, float, float]] = ()
    dots: bool = False


class Axis(NamedTuple):
    """Where values lie between the ends of an axis, what is written at it, and its title."""

    place: Callable[[float], float]
    """0 at the beginning of the axis, 1 at its end."""
    ticks: list[tuple[float, str]]
    title: str


def draw(lines: Sequence[Line], across: Axis, up: Axis, said: str) -> str:
    """One chart; ``said`` is what it shows, for those who cannot see it."""
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(value: float) -> float:
        return LEFT + _within(across.place(value)) * wide

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - _within(up.place(value)) * high

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(said)}">']
    for value, label in up.ticks:
        at = y(value)
        parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="end" x="{LEFT - 7}" y="{at + 4:.1f}">{escape(label)}</text>')
    for value, label in across.ticks:
        at = x(value)
        parts.append(f'<path class="grid" d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
        below = HEIGHT - BOTTOM + 16
        parts.append(f'<text class="mid" x="{at:.1f}" y="{below}">{escape(label)}</text>')
    parts.append(f'<path class="axis" d="M{LEFT} {HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>')
    parts.append(f'<text class="title" x="0" y="12">{escape(up.title)}</text>')
    right, bottom = WIDTH - RIGHT, HEIGHT - 6
    parts.append(f'<text class="title end" x="{right}" y="{bottom}">{escape(across.title)}</text>')
    for line in lines:
        parts += _drawn(line, x, y)
    return "".join([*parts, "</svg>"])


def _within(place: float) -> float:
    """What does not count makes no scale, and is drawn along the edge where it goes beyond."""
    return min(max(place, 0.0), 1.0)


def _drawn(line: Line, x: Callable[[float], float], y: Callable[[float], float]) -> list[str]:
    parts: list[str] = []
    if line.band:
        there = [f"{x(at):.1f} {y(high):.1f}" for at, _, high in line.band]
        back = [f"{x(at):.1f} {y(low):.1f}" for at, low, _ in reversed(line.band)]
        parts.append(f'<path class="band {line.kind}" d="M{"L".join(there + back)}Z"/>')
    points = [(x(at), y(value)) for at, value in line.points]
    path = "L".join(f"{at:.1f} {value:.1f}" for at, value in points)
    parts.append(f'<path class="line {line.kind}" d="M{path}"/>')
    if line.dots:
        parts += [
            f'<circle class="dot {line.kind}" cx="{at:.1f}" cy="{value:.1f}" r="3.5"/>'
            for at, value in points
        ]
    return parts


# --- axes ----------------------------------------------------------------------------------------


def nines(deepest: float) -> Axis:
    """Percentiles by how many nines they have; values are -log10 of the share above them.

    From the fifth nine on every second one has a label: they grow longer, and would overlap.
    """
    end = max(deepest, 2.0) + 0.25  # room for the last label
    ticks = [(math.log10(2), "50")]
    for count in range(1, math.floor(max(deepest, 2.0)) + 1):
        if count < 5 or count % 2 == 0:
            ticks.append((float(count), f"{100 - 100 / 10**count:.{max(count - 2, 0)}f}"))

    def place(value: float) -> float:
        return value / end

    return Axis(place, ticks, "percentile")


def logarithmic(values: Sequence[float], show: Callable[[float], str], title: str) -> Axis:
    """From a bit below the smallest value to a bit above the largest; all are above zero.

    Between 1, 2 and 5 lie factors of 2.5 at most, so there is a tick even for a single value.
    """
    low, high = math.log10(min(values) / 1.6), math.log10(max(values) * 1.6)
    steps = (1, 2, 5) if high - low < 1.7 else (1,)
    marks = [
        step * 10.0**power
        for power in range(math.floor(low), math.ceil(high) + 1)
        for step in steps
        if low <= math.log10(step * 10.0**power) <= high
    ]
    every = math.ceil(len(marks) / (TICKS + 2))
    ticks = [(mark, show(mark)) for mark in marks[::every]]

    def place(value: float) -> float:
        return (math.log10(value) - low) / (high - low)

    return Axis(place, ticks, title)


def from_zero(
    highest: float,
    show: Callable[[float], str],
    title: str,
    *,
    above: float = 1.06,
    thousand: float = 1000.0,
) -> Axis:
    """From zero to ``above`` times the largest value, at round numbers of its unit."""
    top = highest * above or 1.0
    unit = thousand ** math.floor(math.log(top, thousand))
    step = _round_step(top / unit) * unit
    ticks = [(step * count, show(step * count)) for count in range(math.floor(top / step) + 1)]

    def place(value: float) -> float:
        return value / top

    return Axis(place, ticks, title)


def evenly(numbers: Sequence[int], show: Callable[[float], str], title: str) -> Axis:
    """A few numbers, ascending, at equal distances."""
    places = {number: (index + 0.5) / len(numbers) for index, number in enumerate(numbers)}
    ticks = [(float(number), show(number)) for number in numbers]

    def place(value: float) -> float:
        return places[int(value)]

    return Axis(place, ticks, title)


def _round_step(top: float) -> float:
    """1, 2, 2.5 or 5 times a power of ten, of which about `TICKS` fit."""
    rough = top / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= rough * 0.999)


# --- bars, which take the width that a page gives them -------------------------------------------


def bar(share: float, kind: str, mark: float | None = None) -> str:
    """A horizontal bar of ``share`` of the width, and a tick at ``mark`` of it."""
    height = 13
    parts = [
        f'<svg class="bar" width="100%" height="{height}" aria-hidden="true">',
        f'<rect class="fill {kind}" width="{share:.2%}" height="{height}" rx="2"/>',
    ]
    if "unsafe" in kind.split():
        parts.append(
            f'<rect class="hatch" fill="url(#hatch)" width="{share:.2%}" height="{height}"/>'
        )
    if mark is not None:
        parts.append(f'<rect class="mark" x="{mark:.2%}" width="2" height="{height}"/>')
    return "".join([*parts, "</svg>"])


def stacked(parts: Sequence[tuple[float, str]]) -> str:
    """A horizontal bar of shares of the whole width, one behind the other, each of its kind."""
    drawn: list[str] = ['<svg class="bar tall" width="100%" height="34" aria-hidden="true">']
    begin = 0.0
    for share, kind in parts:
        drawn.append(f'<rect class="fill {kind}" x="{begin:.2%}" width="{share:.2%}" height="34"/>')
        begin += share
    return "".join([*drawn, "</svg>"])


def gauge(value: float, bound: float, at_least: bool) -> str:
    """How far a value is on the good or the bad side of its bound.

    The line in the middle is the bound, right of it is better, and each half a factor of four.
    """
    better = value / bound if at_least else bound / value if value else math.inf
    place = 0.5 + max(-0.46, min(0.46, math.log(better, 16) if better > 0 else -0.46))
    kind = "good" if better >= 1 else "bad"
    begin, wide = min(place, 0.5), abs(place - 0.5)
    return (
        '<svg class="gauge" width="100%" height="14" aria-hidden="true">'
        '<rect class="rail" y="5" width="100%" height="4" rx="2"/>'
        f'<rect class="{kind}" x="{begin:.2%}" y="5" width="{wide:.2%}" height="4"/>'
        '<rect class="bound" x="50%" width="1.5" height="14"/>'
        f'<circle class="{kind}" cx="{place:.2%}" cy="7" r="4.5"/></svg>'
    )


def time_label(time_ns: float) -> str:
    """A tick of a time axis: ``10 µs``."""
    return _short(units.time(time_ns))


def size_label(size_bytes: float) -> str:
    """A tick of an axis of bytes: ``2.5 MiB``."""
    return _short(units.size(size_bytes))


def _short(said: str) -> str:
    number, _, unit = said.partition(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {unit}"
