"""What follows from measurements alone: rates, percentiles, labels, gates and the score.

A run computes these once, and whoever verifies its evidence computes them again: a figure that does
not follow from its measurement is refused, signed or not.
"""

import msgspec

from certeus_bench import plausibility
from certeus_bench.figures import title
from certeus_bench.gates import gates_of, score_of
from certeus_bench.results import Label, Measurement, Result, Run
from certeus_bench.scenario import Scenario


def result_of(scenario: Scenario, measurement: Measurement) -> Result:
    """A scenario's measurement with all that follows from it."""
    bare = Result(
        name=scenario.name,
        system=scenario.system,
        scope=scenario.scope,
        what=scenario.what,
        unsafe=scenario.unsafe,
        settings=scenario.settings,
        measurement=measurement,
        per_second=0.0,
        latency=None,
        label=Label.ARTIFACT,
        reasons=[],
    )
    return derived(bare)


def derived(result: Result) -> Result:
    """The same result, with everything that follows from its measurement computed anew."""
    measured = result.measurement
    label, reasons = plausibility.judge(measured, result.scope)
    return msgspec.structs.replace(
        result,
        per_second=measured.operations / measured.seconds if measured.seconds > 0 else 0.0,
        latency=plausibility.latency_of(measured)[0],
        label=label,
        reasons=reasons,
    )


def with_gates(run: Run) -> Run:
    """The run with its gates and its score."""
    gates = gates_of(run)
    return msgspec.structs.replace(run, gates=gates, score=score_of(gates))


def contradictions(run: Run) -> list[str]:
    """What of a run does not follow from its measurements, one sentence each."""
    found: list[str] = []
    results = [derived(result) for result in run.results]
    for stated, follows in zip(run.results, results, strict=True):
        found += _differences(title(stated.name, stated.system), stated, follows)
    again = with_gates(msgspec.structs.replace(run, results=results))
    gates = {gate.metric: gate for gate in run.gates}
    for gate in again.gates:
        what = f"gate {gate.metric!r}"
        stated_gate = gates.pop(gate.metric, None)
        found += _differences(what, stated_gate, gate) if stated_gate else [f"{what} is missing"]
    found += [f"gate {metric!r} is not one of this run" for metric in gates]
    if not found and run.gates != again.gates:
        found.append("the gates are out of order or stand there twice")
    if run.score != again.score:
        found.append(f"score is {run.score}, the gates give {again.score}")
    return found


def _differences(what: str, stated: msgspec.Struct, follows: msgspec.Struct) -> list[str]:
    """Fields of two equal structs that differ, nested structs by their own fields."""
    found: list[str] = []
    for field in stated.__struct_fields__:
        one: object = getattr(stated, field)
        other: object = getattr(follows, field)
        if one == other:
            continue
        if isinstance(one, msgspec.Struct) and isinstance(other, msgspec.Struct):
            found += _differences(what, one, other)
        else:
            found.append(f"{what}: {field} is {one}, the measurements give {other}")
    return found
