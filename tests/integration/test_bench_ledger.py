"""What is measured of certeus itself, in small: it counts what went through a real daemon."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from certeus_bench import homes
from certeus_bench.derive import result_of
from certeus_bench.ledger import costs, durable, over_http, row_latency, rows, servers
from certeus_bench.results import Label, Result
from certeus_bench.scenario import AbsentError, Context, Scenario

pytestmark = [pytest.mark.integration, pytest.mark.timeout(240)]

Measure = Callable[[Scenario], Result]
KINDS = ("supervisor", "worker", "log", "flush", "api")


@pytest.fixture
def measure() -> Measure:
    def measured(scenario: Scenario) -> Result:
        place, _ = homes.place_for_homes(Path("bench/out"))
        with homes.fresh_home(place) as home:
            context = Context(warmup_seconds=0.2, seconds=1.0, home=home, cpus=(0,))
            return result_of(scenario, scenario.measure(context))

    return measured


def of(scenarios: list[Scenario], name: str, **settings: object) -> Scenario:
    return next(
        one for one in scenarios
        if one.name == name and settings.items() <= one.settings.items()
    )  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["durable/ack", "durable/throughput-dicts", "durable/throughput-ids", "durable/producers-4"],
)
def test_what_was_acknowledged_is_counted_and_is_in_the_log(name: str, measure: Measure) -> None:
    result = measure(of(durable.SCENARIOS, name))
    assert result.measurement.operations > 0
    assert result.measurement.cpu_seconds
    assert (result.latency is not None) == (name == "durable/ack")
    assert sum(result.measurement.intervals) <= result.measurement.operations


@pytest.mark.parametrize(
    "scenario", over_http.SCENARIOS, ids=lambda one: f"{one.name} {one.system}"
)
def test_each_event_of_a_request_has_the_time_of_the_request(
    scenario: Scenario, measure: Measure
) -> None:
    result = measure(scenario)
    assert result.measurement.operations % over_http.BATCH == 0 or scenario.name == "http/single"
    assert result.latency is not None
    assert result.latency.count == result.measurement.operations


@pytest.mark.parametrize("version", [servers.EMBEDDED, servers.DEBIAN])
def test_rows_are_those_that_were_appended_on_either_server(
    version: int, measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("EVENTS", "WARMUP_EVENTS", "COPIED_ROWS"):
        monkeypatch.setattr(rows, name, 20_000)
    try:
        delivered = measure(of(rows.SCENARIOS, "postgres/throughput", postgres=version))
        copied = measure(of(rows.SCENARIOS, "floor/copy", postgres=version))
    except AbsentError as error:
        pytest.skip(str(error))
    assert delivered.measurement.operations >= 20_000
    assert copied.measurement.operations == 20_000
    for facts in (delivered.measurement.facts, copied.measurement.facts):
        assert facts["server_version"] // 10_000 == version
        assert facts["fsync"] == facts["full_page_writes"] == facts["synchronous_commit"] == 1
    assert copied.measurement.facts["stream_bytes"] > 20_000 * delivered.measurement.bytes_each


def test_a_row_is_seen_after_it_was_due(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_latency, "RATE", 2000)
    (scenario,) = row_latency.SCENARIOS
    result = measure(scenario)
    assert result.label is Label.SOUND, result.reasons
    assert result.latency is not None
    assert result.latency.count == result.measurement.operations > 1000
    assert result.latency.min_ns > 0


def test_memory_and_idle_are_those_of_certeusd_alone(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DEDUP_KEYS", "WAITING_EVENTS"):
        monkeypatch.setattr(costs, name, 2_000)
    for name in ("SETTLING_S", "IDLE_SECONDS_MIN"):
        monkeypatch.setattr(costs, name, 1.0)
    facts = measure(of(costs.SCENARIOS, "inproc/memory")).measurement.facts
    parts = [facts[f"{kind}_bytes"] for kind in KINDS]
    assert facts["pss_bytes"] == sum(parts), json.dumps(facts)
    assert min(parts) > 0 < facts["postgres_bytes"]
    idle = measure(of(costs.SCENARIOS, "inproc/idle")).measurement
    assert 0 < (idle.cpu_seconds or 0) < idle.seconds


def test_stages_are_measured_once_and_each_has_its_part(
    measure: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "WARMUP_EVENTS", 1000)
    monkeypatch.setattr(costs, "STAGE_EVENTS", 20_000)
    stages = [one for one in costs.SCENARIOS if one.name.startswith("stage/")]
    results = [measure(scenario) for scenario in stages]
    assert [one.name for one in results] == [f"stage/{stage}" for stage in costs.STAGES]
    assert len({one.measurement.seconds for one in results}) == 1
    assert min(one.measurement.cpu_seconds or 0 for one in results) > 0
