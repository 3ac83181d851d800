"""Running scenarios: each in a home of its own, and none takes the others with it."""

import os
from pathlib import Path

import msgspec
import numpy as np
import pytest

from certeus_bench import floors, histogram, loops, runner
from certeus_bench.results import Label, Loop, Measurement, Result, Scope
from certeus_bench.runner import Plan
from certeus_bench.scenario import AbsentError, Context, Scenario
from support.bench_results import SOUND


def context(home: Path, seconds: float = 0.0) -> Context:
    return Context(warmup_seconds=0.0, seconds=seconds, home=home, cpus=(0,))


def plan(place: Path) -> Plan:
    return Plan(mode="quick", warmup_seconds=0.5, seconds=2.0, place=place, cpus=(0, 1))


def scenario(name: str, system: str = "certeus", gives: Exception | None = None) -> Scenario:
    def measure(given: Context) -> Measurement:
        assert list(given.home.iterdir()) == []
        assert (given.warmup_seconds, given.seconds, given.cpus) == (0.5, 2.0, (0, 1))
        (given.home / "left behind").write_text("")
        if gives is not None:
            raise gives
        return SOUND

    return Scenario(
        name=name, system=system, scope=Scope.DURABLE, what="", measure=measure, settings={"n": 1}
    )


class Heard:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def begins(self, scenario: Scenario) -> None:
        self.told.append(f"begins {scenario.name}")

    def measured(self, result: Result) -> None:
        self.told.append(f"measured {result.name}")

    def absent(self, scenario: Scenario, why: str, *, failed: bool) -> None:
        self.told.append(f"{'failed' if failed else 'absent'} {scenario.name}: {why}")


def test_everything_is_measured_in_order_and_each_in_an_empty_home(tmp_path: Path) -> None:
    heard = Heard()
    chosen = [scenario("durable/ack"), scenario("floor/write", "floor")]
    done, good = runner.run(chosen, plan(tmp_path), "certeus-bench run", heard, tmp_path)
    assert good
    assert [one.name for one in done.results] == ["durable/ack", "floor/write"]
    assert done.results[0].label is Label.SOUND
    assert done.settings == {"mode": "quick", "warmup_seconds": 0.5, "seconds": 2.0}
    assert done.gates
    assert heard.told == [
        "begins durable/ack", "measured durable/ack", "begins floor/write", "measured floor/write",
    ]  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_peer_that_is_not_installed_is_absent_and_no_failure(tmp_path: Path) -> None:
    gone = AbsentError("no redis-server; apt-get install redis-server")
    heard = Heard()
    done, good = runner.run(
        [scenario("durable/ack", "Redis", gone), scenario("durable/ack")],
        plan(tmp_path), "", heard, tmp_path,
    )  # fmt: skip
    assert good
    assert done.absent == {"durable/ack of Redis (n 1)": str(gone)}
    assert [one.system for one in done.results] == ["certeus"]
    assert heard.told[1] == f"absent durable/ack: {gone}"


def test_scenario_that_fails_is_told_and_the_rest_is_measured(tmp_path: Path) -> None:
    heard = Heard()
    done, good = runner.run(
        [scenario("durable/ack", gives=OSError("disk on fire")), scenario("floor/write", "floor")],
        plan(tmp_path), "", heard, tmp_path,
    )  # fmt: skip
    assert not good
    assert done.absent == {"durable/ack of certeus (n 1)": "failed: OSError: disk on fire"}
    assert len(done.results) == 1
    assert heard.told[1].startswith("failed durable/ack")
    gate = next(one for one in done.gates if "p50 of an ack" in one.metric)
    assert gate.told == "durable/ack of certeus is absent: failed: OSError: disk on fire"


def test_measurement_that_evidence_cannot_hold_fails_alone(tmp_path: Path) -> None:
    def measure(_: Context) -> Measurement:
        return msgspec.structs.replace(SOUND, facts={"ratio": float("nan")})

    odd = msgspec.structs.replace(scenario("durable/ack"), measure=measure)
    heard = Heard()
    chosen = [odd, scenario("floor/write", "floor")]
    done, good = runner.run(chosen, plan(tmp_path), "", heard, tmp_path)
    assert not good
    assert [one.name for one in done.results] == ["floor/write"]
    assert "failed: ValidationError" in done.absent["durable/ack of certeus (n 1)"]


@pytest.mark.parametrize(
    ("only", "names"),
    [
        ([], ["durable/ack", "ring/one-way", "ring/throughput"]),
        (["ring/*"], ["ring/one-way", "ring/throughput"]),
        (["durable/ack", "*put"], ["durable/ack", "ring/throughput"]),
        (["none"], []),
    ],
)
def test_patterns_choose_by_name(only: list[str], names: list[str]) -> None:
    every = [scenario(name) for name in ("durable/ack", "ring/one-way", "ring/throughput")]
    assert [one.name for one in runner.chosen(every, only)] == names


def test_loop_counts_each_operation_once(tmp_path: Path) -> None:
    calls: list[None] = []
    measured = loops.closed(lambda: calls.append(None), context(tmp_path, 0.05), 7)
    assert measured.operations == len(calls) > 0
    assert histogram.decode(measured.histogram or "").total_count == len(calls)
    assert sum(measured.intervals) == len(calls)
    assert measured.timer_ns > 0
    assert (measured.bytes_each, measured.loop, measured.concurrency) == (7, Loop.CLOSED, 1)


def test_times_are_put_into_the_interval_in_which_they_ended() -> None:
    ended = np.array([0, 99_999_999, 100_000_000, 350_000_000], dtype=np.int64)
    assert loops.intervals_of(ended) == [2, 1, 0, 1]


@pytest.mark.parametrize("name", ["floor/fdatasync-4k", "floor/fdatasync-64k", "floor/write"])
def test_floor_writes_blocks_of_its_size_and_syncs_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floors, "FILE_BYTES", 2**20)
    done: list[tuple[str, int, int]] = []

    def pwrite(descriptor: int, data: bytes, position: int) -> int:
        assert os.fstat(descriptor).st_size == 2**20
        done.append(("write", position, len(data)))
        return len(data)

    def fdatasync(descriptor: int) -> None:
        assert os.fstat(descriptor).st_size == 2**20
        done.append(("sync", 0, 0))

    monkeypatch.setattr(os, "pwrite", pwrite)
    monkeypatch.setattr(os, "fdatasync", fdatasync)
    (floor,) = [one for one in floors.SCENARIOS if one.name == name]
    measured = floor.measure(context(tmp_path, 0.05))
    writes = [one for one in done if one[0] == "write"]
    block = measured.bytes_each
    assert {one[2] for one in writes} == {block}
    assert [one[1] for one in writes[:20]] == [n * block % 2**20 for n in range(len(writes[:20]))]
    assert len(writes) == measured.operations
    together = 4 if name == "floor/write" else 1
    assert [one[0] for one in done[: together + 1]] == ["write"] * together + ["sync"]
    assert len(done) == len(writes) + len(writes) // together
    assert list(tmp_path.iterdir()) == []
