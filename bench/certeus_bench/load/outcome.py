"""Whether a load did what it should; and loads and steps as evidence, like any other result."""

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from shlex import join

import msgspec
from nacl.signing import SigningKey

from certeus_bench import derive, evidence, machine, report, units
from certeus_bench.evidence import Evidence
from certeus_bench.load.generator import Load
from certeus_bench.load.read_back import Rows
from certeus_bench.results import Measurement, Result, Run, Scope
from certeus_bench.scenario import Context, Scenario

REACHED_SHARE = 0.99
CHECKOUT = Path(__file__).resolve().parents[3]

Settings = dict[str, str | int | float | bool]


def faults(
    load: Load, measured: Measurement, target_per_second: float, rows: Rows | None
) -> list[str]:
    """Everything that is not as it should be; empty: the target was reached and nothing is lost."""
    found: list[str] = []
    rate = measured.operations / measured.seconds
    if rate < REACHED_SHARE * target_per_second:
        found.append(
            f"the target was not reached: {units.rate(rate)} became durable of"
            f" {units.rate(target_per_second)}"
        )
    for count, said in (
        (load.total("due") - load.total("sent"), "were due and never offered"),
        (load.total("sent") - load.total("settled"), "were offered and have no verdict"),
        (load.total("rejected"), "were rejected"),
        (load.total("duplicates"), "were called duplicates, though no two have an id"),
    ):
        if count:
            found.append(f"{count:,} events {said}")
    return found + ([] if rows is None else rows.faults)


def result(name: str, what: str, settings: Settings, measured: Measurement) -> Result:
    """One measurement of a load with all that follows from it."""

    def measure(_: Context) -> Measurement:
        return measured

    named = Scenario(
        name=name, system="certeus", scope=Scope.DURABLE, what=what, measure=measure,
        settings=settings,
    )  # fmt: skip
    # As it will be read: what evidence cannot hold fails here.
    encoded = msgspec.json.encode(measured)
    return derive.result_of(named, msgspec.json.decode(encoded, type=Measurement))


def now() -> str:
    """As a run says when it began."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def run(started_at: str, place: Path, settings: Settings, results: Sequence[Result]) -> Run:
    """The results as evidence."""
    whole = Run(
        started_at=started_at,
        commit=machine.commit(CHECKOUT),
        command=join(["certeus-bench", *sys.argv[1:]]),
        machine=machine.describe(place, full=False),
        settings=settings,
        results=list(results),
    )
    return derive.with_gates(whole)


def write(out: Path, name: str, done: Run, key: SigningKey | None) -> tuple[Path, Path]:
    """The evidence and its report."""
    out.mkdir(parents=True, exist_ok=True)
    stamp = "".join(letter for letter in done.started_at if letter.isalnum())
    file, page = (out / f"{name}-{stamp}{suffix}" for suffix in (".json", ".html"))
    data = evidence.encode(done, key)
    written: Evidence = evidence.decode(data)
    file.write_bytes(data)
    page.write_text(report.html(written))
    return file, page
