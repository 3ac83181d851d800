"""What the ring is measured beside; of the peers themselves, what needs nothing installed."""

import os
import sys
from pathlib import Path

import pytest

from certeus_bench import native, ring
from certeus_bench.homes import fresh_home
from certeus_bench.peers import iceoryx2, installed, jvm, queues
from certeus_bench.results import Scope
from certeus_bench.scenario import AbsentError, Context, Scenario
from certeus_bench.scenarios import PEERS

MODULES = (iceoryx2, jvm, queues)
ALL = [scenario for module in MODULES for scenario in module.SCENARIOS]
CPUS = sorted(os.sched_getaffinity(0))


def test_each_peer_does_the_work_of_a_scenario_of_the_ring() -> None:
    own = {scenario.name for scenario in ring.SCENARIOS}
    assert {scenario.name for scenario in ALL} <= own
    assert {scenario.scope for scenario in ALL} == {Scope.RING}
    assert all(scenario in PEERS for scenario in ALL)


def test_each_peer_is_named_once_for_each_work() -> None:
    named = [(scenario.name, scenario.system) for scenario in ALL]
    assert len(set(named)) == len(named)


@pytest.mark.parametrize("scenario", ALL, ids=lambda one: f"{one.name} of {one.system}")
def test_peer_that_is_not_installed_says_what_installs_it(
    scenario: Scenario, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installed, "PEERS", tmp_path / "nowhere")
    with fresh_home(Path("/tmp")) as home:
        context = Context(warmup_seconds=0.05, seconds=0.5, home=home, cpus=(0,))
        with pytest.raises(AbsentError, match="ring_peers"):
            scenario.measure(context)
        assert not list(native.SHARED_MEMORY.glob(f"{home.name}*"))


@pytest.mark.parametrize("data", ["bytes", "dict"])
def test_the_standard_queue_is_read_to_its_last_byte(tmp_path: Path, data: str) -> None:
    context = Context(warmup_seconds=0.01, seconds=0.25, home=tmp_path, cpus=(CPUS[0], CPUS[-1]))
    told = native.argument(context, queue="multiprocessing", data=data, payload_bytes=100)
    measured = native.decode(native.run([sys.executable, "-m", queues.PROGRAM, told], context))
    assert measured.operations > 0
    assert measured.written_sum == measured.read_sum
    assert measured.bytes_each == 100 or data == "dict"
    assert abs(sum(measured.intervals) - measured.operations) <= max(measured.intervals)
