"""The pictures of a page: which results stand in which chart, in which colour.

certeus has one colour everywhere, floors are grey and dashed, and each peer keeps its colour over
the whole page.
"""

import re
from collections.abc import Iterable, Sequence

import numpy as np

from certeus_bench import charts, histogram, page, units
from certeus_bench.charts import Line
from certeus_bench.figures import title
from certeus_bench.page import Html, text
from certeus_bench.results import Label, Loop, Result, Run, Scope

PEER_COLOURS = 6
CURVE_POINTS = 200
SERIES_POINTS_MAX = 160
# the floor below the latencies of a group
FLOORS = {
    "ring": "floor/ping-pong", "durable": "floor/fdatasync-4k", "http": "floor/fdatasync-4k",
}  # fmt: skip
Setting = dict[str, str | int | float | bool]
STAGES = ("append", "ingest", "commit", "deliver", "postgres", "supervise")
_NUMBERED = re.compile(r"(?P<prefix>.*-)(?P<number>\d+)")


class Colours:
    """The classes of each result: one colour a system, another stroke for its other settings."""

    def __init__(self, run: Run) -> None:
        systems = {"certeus": "s0", "floor": "floor"}
        variants: dict[tuple[str, str], list[Setting]] = {}
        for result in run.results:
            systems.setdefault(result.system, f"s{1 + (len(systems) - 2) % PEER_COLOURS}")
            known = variants.setdefault((result.name, result.system), [])
            known.append(result.settings)
        self._systems, self._variants = systems, variants

    def of(self, result: Result) -> str:
        """The classes of a result: its system, and what distinguishes it there."""
        kinds = [self._systems[result.system]]
        if self._variants[result.name, result.system].index(result.settings):
            kinds.append("variant")
        if result.unsafe:
            kinds.append("unsafe")
        if result.label is not Label.SOUND:
            kinds.append("artifact")
        return " ".join(kinds)


def _by_name(results: Iterable[Result]) -> dict[str, list[Result]]:
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.name, []).append(result)
    return groups


def _label(result: Result, others: Sequence[Result]) -> Html:
    """The system, with its settings where it is there twice, and what must be known of it."""
    twice = sum(other.system == result.system for other in others) > 1
    settings = result.settings if twice else {}
    parts = [text(title("", result.system, settings).removeprefix(" of "))]
    if result.unsafe:
        parts.append(Html('<small class="bad">not durable</small>'))
    if result.label is not Label.SOUND:
        parts.append(Html('<small class="warn">artifact</small>'))
    return Html(" ".join(parts))


def _is_floor(name: str) -> bool:
    """Floors stand behind what stands on them."""
    return name.startswith("floor/")


def _sound(results: Sequence[Result]) -> Sequence[Result]:
    """Those that make the scale of a chart: the sound ones if there are any."""
    return [result for result in results if result.label is Label.SOUND] or results


# --- latency by percentile -----------------------------------------------------------------------


def latencies(run: Run) -> list[Html]:
    """One card for each name of which times are known; floors that stand in others come alone."""
    colours = Colours(run)
    timed = [result for result in run.results if result.latency is not None]
    groups = _by_name(result for result in timed if not _is_numbered(result, timed))
    floors = {result.name: result for result in timed if result.system == "floor"}
    below = {FLOORS.get(name.partition("/")[0]) for name in groups}
    cards: list[Html] = []
    alone = [name for name in groups if name not in below]
    for name in sorted(alone, key=_is_floor):
        floor = floors.get(FLOORS.get(name.partition("/")[0], ""))
        cards.append(_latency_card(name, groups[name], floor, colours))
    return cards


def _latency_card(name: str, results: list[Result], floor: Result | None, colours: Colours) -> Html:
    shown = [*results, floor] if floor else results
    curves = [_curve(result) for result in shown]
    heights = [
        value
        for result, curve in zip(shown, curves, strict=True)
        if result in _sound(shown)
        for _, value in curve
    ]
    drawn = charts.draw(
        [Line(colours.of(one), curve) for one, curve in zip(shown, curves, strict=True)][::-1],
        charts.nines(max(at for curve in curves for at, _ in curve)),
        charts.logarithmic(heights, charts.time_label, "time"),
        f"latency of {name} by percentile",
    )
    names = [_label(one, results) for one in results] + ([text(floor.name)] if floor else [])
    rows = [
        [page.stroke(colours.of(one), named), *_times(one)]
        for one, named in zip(shown, names, strict=True)
    ]
    legend = page.table(("", "p50", "p99", "p99.9", "max"), rows, "times", " nnnn")
    return page.figure(name, results[0].what, drawn, legend)


def _times(result: Result) -> list[str]:
    latency = result.latency
    assert latency is not None, "only results with times have a curve"
    values = (latency.p50_ns, latency.p99_ns, latency.p999_ns, latency.max_ns)
    return [text(units.time(value)) for value in values]


def _curve(result: Result) -> list[tuple[float, float]]:
    """Times at even steps of nines, to where a single operation is left."""
    assert result.measurement.histogram is not None
    steps = histogram.steps(histogram.decode(result.measurement.histogram))
    counts = np.cumsum([count for _, count in steps])
    deepest = float(np.log10(counts[-1])) if counts[-1] > 1 else 1.0
    nines = np.linspace(0.0, deepest, CURVE_POINTS)
    ranks = np.ceil((1 - 10.0**-nines) * counts[-1]).clip(1)
    values = np.array([max(time_ns, 1) for time_ns, _ in steps], dtype=np.float64)
    times = values[np.searchsorted(counts, ranks)]
    return list(zip(nines.tolist(), times.tolist(), strict=True))


# --- side by side --------------------------------------------------------------------------------


def side_by_side(run: Run) -> list[Html]:
    """One card for each name that more than one system has."""
    colours = Colours(run)
    cards: list[Html] = []
    for name, results in _by_name(run.results).items():
        if len({result.system for result in results}) > 1:
            cards.append(_bars_card(name, results, colours))
    return cards


def _bars_card(name: str, results: list[Result], colours: Colours) -> Html:
    timed = "throughput" not in name and all(result.latency for result in results)
    values = [
        (float(result.latency.p50_ns) if timed and result.latency else result.per_second, result)
        for result in results
    ]
    values.sort(key=lambda pair: pair[0], reverse=not timed)
    sound = _sound(results)
    longest = max(value for value, result in values if result in sound) or 1.0
    cells: list[str] = []
    for value, result in values:
        p99 = result.latency.p99_ns / longest if timed and result.latency else None
        mark = p99 if p99 is not None and p99 <= 1 else None
        own = "own" if result.system == "certeus" else ""
        shown = units.time(value) if timed else units.rate(value)
        cells += [
            f'<span class="{own}">{_label(result, results)}</span>',
            f'<span class="{own} number">{text(shown)}</span>',
            charts.bar(min(value / longest, 1.0), colours.of(result), mark),
        ]
    better = "p50: shorter is better." if timed else "Longer is better."
    drawn = f'<div class="bars">{"".join(cells)}</div>'
    return page.figure(name, f"{results[0].what} {better}", drawn)


# --- scaling -------------------------------------------------------------------------------------


def _is_numbered(result: Result, results: Sequence[Result]) -> bool:
    """Whether a result is one of a series that differs by a number at the end of its name."""
    found = _NUMBERED.fullmatch(result.name)
    if not found:
        return False
    names = {other.name for other in results if other.name.startswith(found["prefix"])}
    return sum(_NUMBERED.fullmatch(name) is not None for name in names) > 2


def scaling(run: Run) -> list[Html]:
    """One card for each series of names that differ by a number."""
    groups: dict[str, dict[int, Result]] = {}
    for result in run.results:
        found = _NUMBERED.fullmatch(result.name)
        if found and result.system == "certeus" and _is_numbered(result, run.results):
            groups.setdefault(found["prefix"], {})[int(found["number"])] = result
    cards: list[Html] = []
    for prefix, members in groups.items():
        cards.append(_scaling_card(prefix, members, False))
        if prefix.endswith("bytes-"):
            cards.append(_scaling_card(prefix, members, True))
    return cards


def _scaling_card(prefix: str, members: dict[int, Result], in_bytes: bool) -> Html:
    numbers = sorted(members)
    points = [
        (float(number), members[number].per_second * (number if in_bytes else 1))
        for number in numbers
    ]
    highest = max(y for _, y in points)
    what = prefix.rpartition("/")[2].removesuffix("-")
    unit = "bytes/s" if in_bytes else "events/s"
    if in_bytes:
        up = charts.from_zero(highest, charts.size_label, unit, thousand=1024.0)
    else:
        up = charts.from_zero(highest, units.short, unit)
    across = charts.evenly(numbers, lambda number: f"{number:.0f}", what)
    drawn = charts.draw([Line("s0", points, dots=True)], across, up, f"{unit} by {what}")
    heading = f"{prefix.removesuffix('-')}, {unit}"
    return page.figure(heading, members[numbers[0]].what, drawn)


# --- throughput over time ------------------------------------------------------------------------


def over_time(run: Run) -> list[Html]:
    """One card for each name of which there is a series of intervals; no clock's own pace."""
    colours = Colours(run)
    paced = [
        result
        for result in run.results
        if len(result.measurement.intervals) > 2
        and result.measurement.interval_seconds > 0
        and result.measurement.loop is Loop.CLOSED
        and result.scope is not Scope.INPROC
        and not _is_numbered(result, run.results)
    ]
    groups = _by_name(paced)
    return [_pace_card(name, groups[name], colours) for name in sorted(groups, key=_is_floor)]


def _pace_card(name: str, results: list[Result], colours: Colours) -> Html:
    lines = [_paced(result, colours) for result in results]
    scale = [line for line, one in zip(lines, results, strict=True) if one in _sound(results)]
    highest = max(
        max(value for _, value in line.points)
        if not line.band
        else max(one[2] for one in line.band)
        for line in scale
    )
    lasted = max(result.measurement.seconds for result in results)
    drawn = charts.draw(
        lines[::-1],
        charts.from_zero(lasted, lambda value: f"{value:g}", "seconds", above=1.0),
        charts.from_zero(highest, units.short, "operations/s"),
        f"throughput of {name} over time",
    )
    rows = [
        [page.stroke(colours.of(one), _label(one, results)), text(units.rate(one.per_second))]
        for one in results
    ]
    legend = page.table(("", "mean"), rows, numbers=" n")
    return page.figure(name, results[0].what, drawn, legend, kind="pace")


def _paced(result: Result, colours: Colours) -> Line:
    """Rates over time; the last interval may be cut and is left out."""
    measured = result.measurement
    rates = np.array(measured.intervals[:-1], dtype=np.float64) / measured.interval_seconds
    together = -(-len(rates) // SERIES_POINTS_MAX)
    points: list[tuple[float, float]] = []
    band: list[tuple[float, float, float]] = []
    for begin in range(0, len(rates), together):
        part = rates[begin : begin + together]
        at = (begin + len(part) / 2) * measured.interval_seconds
        points.append((at, float(part.mean())))
        if together > 1:
            band.append((at, float(part.min()), float(part.max())))
    return Line(colours.of(result), points, band)


# --- cost of each stage --------------------------------------------------------------------------


def stages(run: Run) -> list[Html]:
    """One bar for each set of settings with which the stages were measured."""
    groups: dict[str, dict[str, float]] = {}
    for result in run.results:
        group, _, stage = result.name.partition("/")
        cost_ns = result.measurement.facts.get("ns_per_event")
        if group == "stage" and cost_ns is not None and result.label is Label.SOUND:
            settings = title("", "", result.settings).removeprefix(" of ").strip()
            groups.setdefault(settings, {})[stage] = cost_ns
    return [_stages_card(settings, costs) for settings, costs in groups.items()]


def _stages_card(settings: str, costs: dict[str, float]) -> Html:
    known = [stage for stage in STAGES if stage in costs]
    order = [*known, *(stage for stage in costs if stage not in STAGES)]
    whole = sum(costs.values()) or 1.0
    parts = [(costs[stage] / whole, f"s{index % 7}") for index, stage in enumerate(order)]
    rows = [
        [page.patch(kind, text(stage)), text(units.time(costs[stage])), text(f"{share:.0%}")]
        for stage, (share, kind) in zip(order, parts, strict=True)
    ]
    rows.append([Html("<b>all</b>"), Html(f"<b>{text(units.time(whole))}</b>"), Html("")])
    legend = page.table(("", "an event", "share"), rows, numbers="wnn")
    heading = f"all stages {settings}".strip()
    return page.figure(heading, f"{units.time(whole)} an event.", charts.stacked(parts), legend)
