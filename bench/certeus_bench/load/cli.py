"""`certeus-bench load` and `certeus-bench stress`, as they are typed."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click
import msgspec
from rich.console import Console
from rich.markup import escape

from certeus_bench.load import generator, outcome, read_back, shown
from certeus_bench.load.asked import Asked, console
from certeus_bench.load.profile import PRODUCERS_MAX, Profile
from certeus_bench.load.sampling import MACHINE, PRODUCER, status_of
from certeus_bench.load.schedule import Ramp, Stairs, rates
from certeus_bench.load.stress import Step, Watch, steps
from certeus_bench.results import Loop, Measurement, Result
from certeusd.exits import Exit

RAMP_SHARE = 0.1
RATE_MAX = 1e7
SHOWN = (PRODUCER, *generator.KINDS, MACHINE)

PLACE = click.Path(file_okay=False, path_type=Path)
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
Command = TypeVar("Command", bound=Callable[..., None])

SHARED = (
    click.option("--workers", type=click.IntRange(1, PRODUCERS_MAX), default=4, show_default=True,
                 help="Producer processes."),
    click.option("--profile", type=click.Choice([one.value for one in Profile]),
                 default=Profile.UNIFORM.value, show_default=True, help="How the load looks."),
    click.option("--bytes", "event_bytes", type=click.IntRange(16, 65536), default=200,
                 show_default=True, help="Of an event's JSON; profile mixed has sizes of its own."),
    click.option("--seed", type=click.IntRange(min=0), help="The same one offers the same events."),
    click.option("--config", type=FILE, metavar="F", help="certeus.toml of the certeusd to start."),
    click.option("--socket", type=click.Path(exists=True, path_type=Path), metavar="PATH",
                 help="Ingest socket of a running certeusd to load instead."),
    click.option("--dir", "directory", type=PLACE, default=Path("bench/out"), show_default=True,
                 help="Measure the disk that holds this directory."),
    click.option("--out", type=PLACE, default=Path("bench/out"), show_default=True,
                 help="Where evidence goes."),
    click.option("--key", type=FILE, help="Sign the evidence with the key in this file."),
)  # fmt: skip


def shared(command: Command) -> Command:
    """The options that both commands have; `Asked` takes them."""
    for option in reversed(SHARED):
        command = option(command)
    return command


@click.command("load")
@click.option(
    "--target",
    type=click.FloatRange(1, RATE_MAX),
    default=100_000,
    show_default=True,
    help="Events a second, of all producers together.",
)
@click.option(
    "--duration",
    type=click.FloatRange(1),
    default=300.0,
    show_default=True,
    metavar="S",
    help="Seconds, the ramp included.",
)
@click.option(
    "--ramp",
    type=click.FloatRange(0),
    metavar="S",
    help="Seconds up to the target, not counted; a tenth of the duration unless told.",
)
@click.option("--no-rows", is_flag=True, help="Do not look whether PostgreSQL has it all.")
@click.option(
    "--flush-timeout",
    type=click.FloatRange(1),
    default=600.0,
    show_default=True,
    metavar="S",
    help="Seconds to wait until it has.",
)
@shared
def load(
    target: float, duration: float, ramp: float | None, no_rows: bool, flush_timeout: float,
    **options: object,
) -> None:  # fmt: skip
    """Offer events by the clock; tell how long after they were due they were durable.

    Exit code 1: the target was not reached, or an event was lost or refused.
    """
    ramp_seconds = duration * RAMP_SHARE if ramp is None else ramp
    if ramp_seconds >= duration:
        raise click.UsageError("--ramp takes all of --duration: nothing would be counted")
    asked = _asked(options)
    shape, plan = asked.shape(), Ramp(target, ramp_seconds, duration)
    told, began = Console(stderr=True, highlight=False), outcome.now()
    told.print(f"  {shape.profile}, {shape.workers} producers, --seed {shape.seed}")
    rows = None
    with asked.place(told) as (certeusd, home):
        after_seq = status_of(certeusd).durable_seq
        with shown.Watching(told, target) as watching:
            done = generator.offer(certeusd, plan, shape, ramp_seconds, home, watching)
        if not no_rows:
            told.print("  waiting until PostgreSQL has all that is durable")
            rows = read_back.read(certeusd, done.reports, after_seq, flush_timeout)
    sums = None if rows is None else rows.sums
    measured = generator.measurement(done, plan, ramp_seconds, sums)
    result = outcome.result(
        f"load/{shape.profile}",
        "Events are offered by the clock; each counts from when it was due until its producer knew"
        " that it was durable.",
        {"target": target, **asked.settings(shape)},
        measured,
    )
    faults = outcome.faults(done, measured, target, rows)
    _tell_load(result, rows, faults)
    _tell_files(asked.write("load", began, [result]))
    if faults:
        sys.exit(Exit.FAILED)


def _asked(options: dict[str, object]) -> Asked:
    asked = msgspec.convert(options, Asked)
    if asked.socket is not None and asked.config is not None:
        raise click.UsageError("--config is for a certeusd that is started, --socket for another")
    return asked


def _tell_load(result: Result, rows: read_back.Rows | None, faults: list[str]) -> None:
    said = console()
    said.print(shown.latencies(result))
    said.print(shown.processors(result))
    if rows is not None:
        checked = "" if rows.sums is None else ", checksums compared"
        said.print(f"{rows.total:,} rows in PostgreSQL{checked}")
    for reason in result.reasons:
        said.print(f"[yellow]artifact: {escape(reason)}[/]", soft_wrap=True)
    for fault in faults:
        said.print(f"[bold red]{escape(fault)}[/]", soft_wrap=True)
    if not faults:
        said.print("[green]the target was reached, and nothing was lost[/]")


def _tell_files(written: tuple[Path, Path]) -> None:
    for path in written:
        console().print(f"wrote {path}", soft_wrap=True)


@click.command("stress")
@click.option(
    "--from",
    "first",
    type=click.FloatRange(1, RATE_MAX),
    default=20_000,
    show_default=True,
    help="Events a second of the first step.",
)
@click.option(
    "--factor",
    type=click.FloatRange(1.01, 10),
    default=1.25,
    show_default=True,
    help="Each step is so many times the one before.",
)
@click.option(
    "--to",
    "last",
    type=click.FloatRange(1, RATE_MAX),
    default=2_000_000,
    show_default=True,
    help="No step is above that.",
)
@click.option(
    "--step-seconds",
    type=click.FloatRange(4),
    default=5.0,
    show_default=True,
    metavar="S",
    help="How long each step takes.",
)
@click.option(
    "--through",
    is_flag=True,
    help="Go on when PostgreSQL alone gives, until events are not durable in time.",
)
@shared
def stress(
    first: float, factor: float, last: float, step_seconds: float, through: bool, **options: object
) -> None:  # fmt: skip
    """Offer more and more until something gives; tell which stage did, and at what rate."""
    if last < first:
        raise click.UsageError("--to is below --from: there is no step")
    asked = _asked(options)
    shape, plan = asked.shape(), Stairs(rates(first, factor, last), step_seconds)
    told, began = Console(stderr=True, highlight=False), outcome.now()
    told.print(f"  {shape.profile}, {shape.workers} producers, --seed {shape.seed}")
    watch = Watch(
        plan, through=through, told=lambda step: told.print(shown.step_line(step), soft_wrap=True)
    )
    with asked.place(told) as (certeusd, home):
        done = generator.offer(certeusd, plan, shape, 0.0, home, watch)
    found = steps(plan, done.samples)
    results = [
        outcome.result(
            "stress/step",
            "One step of a rate that grows until a stage gives.",
            {"target": round(step.target_per_second), **asked.settings(shape)}
            | {"gave": ", ".join(given.stage for given in step.gave) or "nothing"},
            _measured(step, generator.bytes_each(done)),
        )
        for step in found
    ]
    for finding in shown.findings(found):
        console().print(finding, soft_wrap=True)
    _tell_files(asked.write("stress", began, results))


def _measured(step: Step, bytes_each: int) -> Measurement:
    """A step as evidence: what became durable while it lasted."""
    first, last = step.samples[0], step.samples[-1]
    found = step.rates
    return Measurement(
        operations=last.settled - first.settled,
        seconds=last.at_s - first.at_s,
        warmup_seconds=0.0,
        bytes_each=bytes_each,
        loop=Loop.OPEN,
        facts={
            "due_per_second": found.due,
            "postgres_per_second": found.flushed,
            "lag_events": float(last.lag_events),
            "not_settled_events": float(last.due - last.settled),
            **{f"{kind}_processors": found.processors(kind) for kind in SHOWN},
        },
    )
