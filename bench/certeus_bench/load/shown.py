"""What a terminal shows of a load while it goes on, and at its end."""

from collections.abc import Sequence
from itertools import takewhile

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from certeus_bench import units
from certeus_bench.load.generator import KINDS
from certeus_bench.load.progress import Page
from certeus_bench.load.sampling import MACHINE, PRODUCER, Sample
from certeus_bench.load.stages import rates
from certeus_bench.load.stress import Step, first_to_give
from certeus_bench.results import Result

PLAIN_SECONDS = 5.0
"""Between two lines where no terminal moves."""
SINCE = 2
"""Rates are those since so many samples ago."""


class Watching:
    """One line that moves, each second; where nothing can move, a line now and then."""

    def __init__(self, console: Console, target_per_second: float) -> None:
        self._console = console
        self._target = target_per_second
        self._live = Live("", console=console, transient=True) if console.is_terminal else None
        self._told_s = 0.0

    def __enter__(self) -> "Watching":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, samples: list[Sample], _page: Page) -> None:
        """Be shown all samples so far."""
        if len(samples) <= SINCE or len(samples) % SINCE:
            return
        said = line(samples[-1 - SINCE], samples[-1], self._target)
        if self._live is not None:
            self._live.update(said)
        elif samples[-1].at_s - self._told_s >= PLAIN_SECONDS:
            self._told_s = samples[-1].at_s
            self._console.print(said, soft_wrap=True)


def line(before: Sample, now: Sample, target: float) -> str:
    """One moment of a load."""
    found = rates(before, now)
    return (
        f"  {now.at_s:5.0f} s  target {units.rate(target)}  offered {units.rate(found.sent)}"
        f"  durable {units.rate(found.durable)}  in PostgreSQL {units.rate(found.flushed)}"
        f"  lag {now.lag_events:,}"
    )


def latencies(result: Result) -> Table:
    """A load's figures."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("rate", "p50", "p90", "p99", "p99.9", "max", "offered late p50", "p99"):
        table.add_column(column, justify="right")
    facts, told = result.measurement.facts, result.latency
    late = (units.time(facts[f"offered_late_{name}_ns"]) for name in ("p50", "p99"))
    times = (told.p50_ns, told.p90_ns, told.p99_ns, told.p999_ns, told.max_ns) if told else ()
    cells = [units.time(time_ns) for time_ns in times] or [""] * 5
    table.add_row(units.rate(result.per_second), *cells, *late)
    return table


def processors(result: Result) -> str:
    """Who had how many processors, what each event cost, and what the log and PostgreSQL did."""
    measured = result.measurement
    facts = measured.facts
    said = ", ".join(f"{kind} {_had(facts, kind)}" for kind in KINDS)
    offering = facts["producer_cpu_seconds"] / measured.seconds
    each_ns = facts["producer_cpu_seconds"] / max(measured.operations, 1) * 1e9
    return (
        f"processors (and in line for one): {said}; producers {offering:.2f},"
        f" {units.time(each_ns)} an event; machine {facts.get('machine_processors', 0.0):.2f}\n"
        f"groups of {facts.get('events_a_group', 0.0):,.0f} events, a sync"
        f" {units.time(facts.get('sync_mean_ns', 0.0))} on average; at most"
        f" {facts['lag_events_max']:,.0f} events behind in PostgreSQL"
    )


def _had(facts: dict[str, float], kind: str) -> str:
    had, waited = (facts.get(f"{kind}_{what}", 0.0) for what in ("processors", "in_line"))
    return f"{had:.2f} (+{waited:.2f})"


def step_line(step: Step) -> str:
    """One step of a stress, in one line."""
    found = step.rates
    given = ", ".join(f"[bold red]{one.stage} gave[/]" for one in step.gave) or "[green]holds[/]"
    return (
        f"  {units.rate(step.target_per_second):>10} due  {units.rate(found.durable):>10} durable"
        f"  {units.rate(found.flushed):>10} in PostgreSQL  lag {step.samples[-1].lag_events:>9,}"
        f"  at work: producers {found.busiest(PRODUCER):.0%}, worker {found.busiest('worker'):.0%},"
        f" log {found.log_at_work:.0%}, flusher {found.busiest('flush'):.0%};"
        f" machine {found.cpu.get(MACHINE, 0.0):.2f}  {given}"
    )


def findings(done: Sequence[Step]) -> list[str]:
    """What gave first, and next."""
    given_ones = first_to_give(done)
    given_at = {step.target_per_second for step, _ in given_ones}
    held = list(takewhile(lambda step: step.target_per_second not in given_at, done))
    said: list[str] = []
    for number, (step, given) in enumerate(given_ones):
        order = "first" if number == 0 else "next"
        said.append(
            f"[bold]{given.stage}[/] gave {order}, at {units.rate(step.target_per_second)}:"
            f" {escape(given.why)}"
        )
    if not said:
        said.append("nothing gave: raise --to")
    if held:
        said.append(f"all stages held {units.rate(held[-1].target_per_second)}")
    return said
