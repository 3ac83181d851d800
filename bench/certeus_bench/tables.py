"""What a terminal shows: scenarios, results, gates, and a run while it goes on."""

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from certeus_bench import units
from certeus_bench.compare import Comparison, Row, Verdict
from certeus_bench.figures import CPU, PSS
from certeus_bench.gates import bound_said, value_said
from certeus_bench.results import Gate, Label, Result, Run
from certeus_bench.scenario import Scenario

VERDICT_STYLES = {
    Verdict.SAME: "dim",
    Verdict.FASTER: "green",
    Verdict.SLOWER: "bold red",
    Verdict.NOT_COMPARABLE: "yellow",
}
RATIO_MAX = 10
"""Beyond it, how much slower something is does not matter any more."""
OVERHEAD_SECONDS = 1.0
"""What a scenario takes beside warm-up and measuring, at least: only the bar rests on it."""


def scenarios(found: list[Scenario]) -> Table:
    """What can be measured."""
    table = _table("name", "system", "scope", "what")
    for scenario in found:
        name = escape(scenario.name)
        table.add_row(name, escape(scenario.system), scenario.scope, escape(scenario.what))
    return table


def results(run: Run) -> Table:
    """One line for each result and for each that is absent."""
    table = _table("name", "system")
    for column in ("p50", "p99", "p99.9", "rate"):
        table.add_column(column, justify="right")
    table.add_column("")
    for result in run.results:
        table.add_row(escape(result.name), escape(result.system), *_cells(result), _remark(result))
    for key, why in run.absent.items():
        table.add_row(f"[dim]{escape(key)}[/]", "", "", "", "", "", f"[yellow]{escape(why)}[/]")
    return table


def gates(run: Run) -> Table:
    """One line for each bar, and the score."""
    table = _table("", "bar")
    for column in ("value", "bound"):
        table.add_column(column, justify="right")
    table.add_column("how")
    for gate in run.gates:
        mark = "[green]✓[/]" if gate.passed else "[bold red]✗[/]"
        table.add_row(
            mark, escape(gate.metric), value_said(gate), bound_said(gate), escape(gate.told)
        )
    table.caption = score(run.gates)
    table.caption_justify = "left"
    return table


def comparison(found: Comparison) -> Table:
    """One line for each figure of both sides."""
    table = _table("name", "system", "figure")
    for column in ("base", "new", "slower by", "99 %", "its floor by"):
        table.add_column(column, justify="right")
    table.add_column("verdict")
    for row in found.rows:
        name, system, settings = row.key
        style = VERDICT_STYLES[row.verdict]
        verdict = f"[{style}]{row.verdict}[/]" + (f": {escape(row.why)}" if row.why else "")
        cells = _compared(row)
        table.add_row(escape(f"{name} {settings}".strip()), escape(system), *cells, verdict)
    return table


def _compared(row: Row) -> tuple[str, ...]:
    figure = row.figure
    if figure is None or row.base is None or row.new is None or row.ratio is None:
        return ("",) * 6
    interval = f"{_more(row.interval.low)} .. {_more(row.interval.high)}" if row.interval else "?"
    floor = _more(row.floor_ratio) if row.floor_ratio else ""
    shown = (figure.show(row.base), figure.show(row.new))
    return (figure.name, *shown, _more(row.ratio), interval, floor)


def _more(ratio: float) -> str:
    return f"{(ratio - 1) * 100:+.1f} %" if ratio < RATIO_MAX else f"> {RATIO_MAX} times"


def score(passed_or_not: list[Gate]) -> str:
    """``17 of 21 bars reached``."""
    reached = sum(gate.passed for gate in passed_or_not)
    return f"{reached} of {len(passed_or_not)} bars reached"


def line(result: Result) -> str:
    """One result in one line, while the run goes on."""
    p50, p99, _, rate = _cells(result)
    figures = [f"p50 {p50}", f"p99 {p99}"] if result.latency else [rate]
    mark = "[green]✓[/]" if result.label is Label.SOUND else "[yellow]artifact[/]"
    return f"{mark} {escape(result.name)} of {escape(result.system)}: {', '.join(figures)}"


class Progressing:
    """Tells of a run on a terminal: a bar that moves, and a line for each scenario."""

    def __init__(self, console: Console, scenario_count: int, seconds_each: float) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeElapsedColumn(),
            TextColumn(f"[dim]about {scenario_count * (seconds_each + OVERHEAD_SECONDS):.0f} s"),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("", total=scenario_count)

    def __enter__(self) -> "Progressing":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def begins(self, scenario: Scenario) -> None:
        """A scenario begins."""
        description = f"{escape(scenario.name)} of {escape(scenario.system)}"
        self._progress.update(self._task, description=description)

    def measured(self, result: Result) -> None:
        """It gave a result."""
        self._tell(line(result))
        for reason in result.reasons:
            self._tell(f"    [yellow]{escape(reason)}[/]")
        self._progress.advance(self._task)

    def absent(self, scenario: Scenario, why: str, *, failed: bool) -> None:
        """It gave none."""
        mark = "[bold red]✗[/]" if failed else "[dim]absent[/]"
        self._tell(f"{mark} {escape(scenario.name)} of {escape(scenario.system)}: {escape(why)}")
        self._progress.advance(self._task)

    def _tell(self, markup: str) -> None:
        self._progress.console.print(f"  {markup}", soft_wrap=True)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", title_justify="left")
    for column in columns:
        table.add_column(column)
    return table


def _cells(result: Result) -> tuple[str, str, str, str]:
    latency = result.latency
    rate = units.rate(result.per_second)
    if latency is None:
        return "", "", "", rate
    return units.time(latency.p50_ns), units.time(latency.p99_ns), units.time(latency.p999_ns), rate


def _remark(result: Result) -> str:
    """Why a result does not count, or what else it says."""
    if result.label is not Label.SOUND:
        return f"[yellow]artifact: {escape('; '.join(result.reasons))}[/]"
    told = [
        f"{figure.name} {figure.show(value)}"
        for figure in (CPU, PSS)
        if (value := figure.read(result)) is not None
    ]
    unsafe = ["[red]acknowledged before it is durable[/]"] if result.unsafe else []
    return ", ".join(unsafe + told)
