"""Measures a list of scenarios, one after the other, and makes a run of what they say.

A scenario never takes the others with it: what fails is told, recorded as absent with its message,
and the rest goes on.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol

import msgspec

from certeus_bench import derive, machine
from certeus_bench.figures import title
from certeus_bench.homes import fresh_home
from certeus_bench.results import Measurement, Result, Run
from certeus_bench.scenario import AbsentError, Context, Scenario


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How to measure, and where."""

    mode: str
    warmup_seconds: float
    seconds: float
    place: Path
    """Homes are made in here: the disk under test."""
    cpus: tuple[int, ...]


class Told(Protocol):
    """Who is told while it goes on."""

    def begins(self, scenario: Scenario) -> None:
        """A scenario begins."""
        ...

    def measured(self, result: Result) -> None:
        """It gave a result."""
        ...

    def absent(self, scenario: Scenario, why: str, *, failed: bool) -> None:
        """It gave none: its system is not installed, or it failed."""
        ...


def chosen(scenarios: Sequence[Scenario], only: Sequence[str]) -> list[Scenario]:
    """Those whose name fits one of the patterns; all where there are none."""
    return [
        scenario
        for scenario in scenarios
        if not only or any(fnmatchcase(scenario.name, pattern) for pattern in only)
    ]


def run(
    scenarios: Sequence[Scenario], plan: Plan, command: str, told: Told, checkout: Path
) -> tuple[Run, bool]:
    """Measure all; the run, and whether every scenario did what it should."""
    started_at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    described = machine.describe(plan.place, full=plan.mode == "full")
    results: list[Result] = []
    absent: dict[str, str] = {}
    failed = False
    for scenario in scenarios:
        told.begins(scenario)
        try:
            result = measure(scenario, plan)
        except Exception as error:  # whatever it is, the other scenarios are measured
            why = str(error) or type(error).__name__
            if not isinstance(error, AbsentError):
                failed = True
                why = f"failed: {type(error).__name__}: {error}"
            absent[title(scenario.name, scenario.system, scenario.settings)] = why
            told.absent(scenario, why, failed=not isinstance(error, AbsentError))
        else:
            results.append(result)
            told.measured(result)
    whole = Run(
        started_at=started_at,
        commit=machine.commit(checkout),
        command=command,
        machine=described,
        settings={
            "mode": plan.mode,
            "warmup_seconds": plan.warmup_seconds,
            "seconds": plan.seconds,
        },
        results=results,
        absent=absent,
    )
    return derive.with_gates(whole), not failed


def measure(scenario: Scenario, plan: Plan) -> Result:
    """One scenario in a home of its own."""
    with fresh_home(plan.place) as home:
        context = Context(
            warmup_seconds=plan.warmup_seconds, seconds=plan.seconds, home=home, cpus=plan.cpus
        )
        measured = msgspec.json.encode(scenario.measure(context))
        # What evidence cannot hold fails here, before hours of others are lost with it.
        return derive.result_of(scenario, msgspec.json.decode(measured, type=Measurement))
