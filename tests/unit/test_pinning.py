"""Which process runs where, over machines that this one is not."""

import random
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from certeusd.config import CpuSection
from certeusd.config_sources import ConfigError
from certeusd.supervisor.pinning import Placement, plan, plan_between
from certeusd.supervisor.scaling import Bounds, automatic
from certeusd.supervisor.topology import Cpu, Topology

AUTO, ON, OFF = (CpuSection(pin=pin) for pin in ("auto", "on", "off"))


def machine(
    count: int, *, threads: int = 1, nodes: int = 1, isolated: frozenset[int] = frozenset()
) -> Topology:
    """Number CPUs as Linux does: each core's first thread, then the siblings in the same order."""
    cores = count // threads
    return {
        number: Cpu(
            number,
            number % cores,
            node := number % cores * nodes // cores,
            node,
            number in isolated,
        )
        for number in range(count)
    }


def placed(topology: Topology, settings: CpuSection = AUTO, workers: int = 0) -> Placement:
    return plan(topology, topology.keys(), settings, workers)


def hot(placement: Placement) -> list[int]:
    cpus = [placement.log, *placement.worker, placement.flush]
    return [cpu for cpu in cpus if cpu is not None]


# --- examples that a human has looked at ----------------------------------------------------------


class Example(NamedTuple):
    what: str
    topology: Topology
    allowed: set[int]
    log: int | None
    worker: list[int | None]
    flush: int | None
    rest: set[int]


EXAMPLES = [
    Example("a small virtual machine", machine(2), {0, 1}, None, [None], None, {0, 1}),
    Example("a cgroup with one CPU", machine(64), {17}, None, [None], None, {17}),
    Example("three CPUs", machine(3), {0, 1, 2}, None, [None], None, {0, 1, 2}),
    Example("four cores", machine(4), set(range(4)), 3, [2], 1, {0}),
    Example(
        "two cores with two threads: the flusher is the log writer's sibling",
        machine(4, threads=2), set(range(4)), 3, [2], 1, {0},
    ),
    Example("eight cores", machine(8), set(range(8)), 7, [6, 5], 4, {0, 1, 2, 3}),
    Example(
        "four cores with two threads", machine(8, threads=2), set(range(8)),
        7, [6, 5], 4, {0, 1, 2, 3},
    ),
    Example(
        "holes of a cpuset", machine(128), {2, 3, 17, 40, 41, 90, 91, 120},
        120, [91, 90], 41, {2, 3, 17, 40},
    ),
    Example(
        "two sockets: the one without CPU 0", machine(8, nodes=2), set(range(8)),
        7, [6, 5], 4, {0, 1, 2, 3},
    ),
    Example(
        "two sockets with two threads: whole cores of both before siblings of one",
        machine(8, threads=2, nodes=2), set(range(8)), 7, [6, 5], 4, {0, 1, 2, 3},
    ),
    Example(
        "two sockets, of which the second is nearly all somebody else's",
        machine(16, nodes=2), {*range(8), 8, 9}, 7, [6, 5], 4, {0, 1, 2, 3, 8, 9},
    ),
    Example(
        "isolated cores for the hot ones",
        machine(8, isolated=frozenset({2, 3, 4, 5})), set(range(8)), 5, [4, 3], 2, {0, 1, 6, 7},
    ),
    Example(
        "two isolated cores: log writer and first worker; nobody else is put there",
        machine(8, isolated=frozenset({1, 2})), set(range(8)), 2, [1, 7], 6, {0, 3, 4, 5},
    ),
    Example(
        "isolated siblings stay quiet",
        machine(16, threads=2, isolated=frozenset({1, 2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 14})),
        set(range(16)), 14, [13, 12, 11, 10], 9, {0, 7, 8, 15},
    ),
]  # fmt: skip


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.what)
def test_each_example_is_placed_as_a_human_would(example: Example) -> None:
    found = plan(example.topology, example.allowed, AUTO, 0)
    wanted = (example.log, example.worker, example.flush, example.rest)
    assert (found.log, list(found.worker), found.flush, set(found.rest)) == wanted


# --- what holds on every machine ------------------------------------------------------------------


class Machine(NamedTuple):
    topology: Topology
    allowed: frozenset[int]


def machines() -> Iterator[Machine]:
    """Every count up to 64, with and without siblings, nodes, isolation, and holes."""
    rng = random.Random(1)
    for count in range(1, 65):
        for threads in (1, 2) if count % 2 == 0 else (1,):
            for nodes in (1, 2, 4):
                if nodes > count // threads:
                    continue
                every = frozenset(range(count))
                some = frozenset(rng.sample(sorted(every), rng.randint(1, count)))
                for isolated in (frozenset[int](), frozenset(range(1, count, 2)), some, every):
                    topology = machine(count, threads=threads, nodes=nodes, isolated=isolated)
                    holes = frozenset(rng.sample(sorted(every), rng.randint(1, count)))
                    for allowed in (every, holes, frozenset({max(holes)})):
                        yield Machine(topology, allowed)


MACHINES = list(machines())


def test_no_two_hot_processes_share_a_cpu_and_none_leaves_what_is_allowed() -> None:
    for topology, allowed in MACHINES:
        for settings in (AUTO, ON, OFF):
            for workers in (0, 1, 3, 64):
                found = plan(topology, allowed, settings, workers)
                cpus = hot(found)
                assert len(cpus) == len(set(cpus)), (allowed, found)
                assert set(cpus) | found.rest <= allowed, (allowed, found)
                assert found.rest, (allowed, found)
                assert len(found.worker) == found.workers == (workers or found.workers)
                assert found.rest.isdisjoint(cpus) or set(cpus) == allowed, (allowed, found)


def test_below_four_cpus_there_is_one_worker_and_nothing_is_pinned() -> None:
    for topology, allowed in MACHINES:
        found = plan(topology, allowed, AUTO, 0)
        if len(allowed) < 4:
            expected = Placement(1, None, (None,), None, allowed, "fewer than 4 CPUs")
            assert found == expected
        else:
            assert found.workers == min(8, len(allowed) // 4)
            assert len(hot(found)) == found.workers + 2, "every hot process has a CPU"
            assert not found.why


def test_cores_are_used_before_siblings_on_them() -> None:
    for topology, allowed in MACHINES:
        cpus = hot(plan(topology, allowed, AUTO, 0))
        cores = {topology[cpu].core for cpu in allowed}
        assert len({topology[cpu].core for cpu in cpus}) == min(len(cpus), len(cores))


def test_isolated_cores_are_used_first_and_for_nothing_else() -> None:
    for topology, allowed in MACHINES:
        found = plan(topology, allowed, AUTO, 0)
        isolated = {cpu for cpu in allowed if topology[cpu].isolated}
        cores = {topology[cpu].core for cpu in isolated}
        cpus = hot(found)
        assert len(isolated.intersection(cpus)) >= min(len(cpus), len(cores))
        if allowed - isolated - set(cpus) and cpus:
            assert found.rest.isdisjoint(isolated)


def test_one_node_holds_the_hot_ones_where_they_fit_as_cores() -> None:
    for topology, allowed in MACHINES:
        cpus = hot(plan(topology, allowed, AUTO, 0))
        cores: dict[int, set[int]] = {}
        for cpu in allowed:
            cores.setdefault(topology[cpu].node, set()).add(topology[cpu].core)
        fits = any(len(own) >= len(cpus) for own in cores.values())
        if cpus and fits and not any(topology[cpu].isolated for cpu in allowed):
            assert len({topology[cpu].node for cpu in cpus}) == 1, (allowed, cpus)


def test_cpu_0_is_left_to_interrupts_where_there_is_choice() -> None:
    for topology, allowed in MACHINES:
        plain = all(cpu.core == cpu.number and not cpu.isolated for cpu in topology.values())
        one_node = {cpu.node for cpu in topology.values()} == {0}
        if plain and one_node:
            assert 0 not in hot(plan(topology, allowed, AUTO, 0))


def test_the_same_machine_is_always_placed_the_same() -> None:
    for topology, allowed in MACHINES[::7]:
        shuffled = dict(sorted(topology.items(), key=lambda item: item[0] * 7919 % 64))
        assert plan(shuffled, allowed, AUTO, 0) == plan(topology, allowed, AUTO, 0)


# --- what `[cpu]` and `[worker]` say --------------------------------------------------------------


def test_workers_may_be_counted_by_hand() -> None:
    assert placed(machine(2), workers=2) == Placement(
        2, None, (None, None), None, frozenset({0, 1}), "fewer than 4 CPUs"
    )
    assert placed(machine(128)).workers == 8


def test_nothing_is_pinned_when_no_cpu_would_be_left() -> None:
    found = placed(machine(5), workers=3)
    assert (hot(found), found.why) == ([], "5 hot processes on 5 CPUs")


def test_off_pins_nothing_and_says_so() -> None:
    found = placed(machine(16), OFF)
    assert (hot(found), found.workers, found.why) == ([], 4, 'cpu.pin = "off"')


def test_on_pins_below_four_those_that_have_a_cpu_log_writer_first() -> None:
    found = placed(machine(2), ON)
    assert (found.log, found.worker, found.flush) == (1, (0,), None)
    assert (found.rest, found.why) == (frozenset({0, 1}), "3 hot processes on 2 CPUs")
    found = placed(machine(3), ON)
    assert (found.log, found.worker, found.flush, found.rest) == (2, (1,), 0, frozenset({0, 1, 2}))


def test_workers_that_may_come_have_a_cpu_for_when_they_are_there() -> None:
    found = plan_between(machine(16), frozenset(range(16)), AUTO, Bounds(2, 5))
    alone = plan(machine(16), frozenset(range(16)), AUTO, 5)
    assert (found.workers, found.worker, found.why) == (2, alone.worker, "")
    assert found.rest == alone.rest | set(alone.worker[2:]), "nobody is there yet"


def test_as_many_workers_as_may_come_are_pinned_as_leave_a_cpu() -> None:
    found = plan_between(machine(8), frozenset(range(8)), AUTO, Bounds(1, 6))
    assert len(hot(found)) == 7
    assert found.worker[5] is None
    assert found.why == "8 hot processes on 8 CPUs"
    off = plan_between(machine(8), frozenset(range(8)), OFF, Bounds(1, 6))
    assert (hot(off), len(off.worker), off.why) == ([], 6, 'cpu.pin = "off"')


def test_a_number_that_does_not_change_is_placed_as_ever() -> None:
    for topology, allowed in MACHINES[::3]:
        for settings in (AUTO, ON, OFF):
            number = automatic(len(allowed))
            found = plan_between(topology, allowed, settings, Bounds(number, number))
            assert found == plan(topology, allowed, settings, 0)


def test_only_the_cpus_that_are_named_are_used() -> None:
    found = placed(machine(16), CpuSection(cpus="2-5,9"))
    assert (found.log, found.worker, found.flush, found.rest) == (9, (5,), 4, frozenset({2, 3}))
    found = placed(machine(16), CpuSection(cpus="2-3"))
    assert (hot(found), found.workers, found.rest) == ([], 1, frozenset({2, 3}))


def test_a_cpu_that_is_named_but_not_allowed_is_refused_with_the_key() -> None:
    with pytest.raises(ConfigError, match=r'cannot use cpu.cpus = "2-9": 8-9 is not allowed here'):
        placed(machine(8), CpuSection(cpus="2-9"))


def test_a_cpu_that_the_kernel_says_nothing_about_is_a_core_of_its_own() -> None:
    found = plan({}, {0, 1, 2, 3}, AUTO, 0)
    assert (found.log, found.worker, found.flush, found.rest) == (3, (2,), 1, frozenset({0}))
