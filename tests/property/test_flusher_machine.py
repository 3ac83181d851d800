"""The flusher against a model, with a real PostgreSQL, through everything that may happen to it."""

import asyncio
import collections
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import ClassVar

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from support.attack import Attack, Outcome
from support.flusher_world import World, prepare
from support.postgres import installations, server

pytestmark = [pytest.mark.crash, pytest.mark.integration]

POISON_RATE = 0.1
EXAMPLES_EACH = 10
FAST = (20, 30, 6.0)
FULL = (2000, 50, 300.0)
"""Examples, steps of each, and seconds after which no further ones are begun."""


class Shared:
    """One server and one connection for all examples; counts of what was done to them."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.rows = 0
        self._owned = ExitStack()
        self.loop = asyncio.new_event_loop()
        self._owned.callback(self.loop.close)
        self.server = self._owned.enter_context(server(sorted(installations().items())[-1][1]))
        self.admin = self.loop.run_until_complete(prepare(self.server.dsn()))
        self._owned.callback(lambda: self.loop.run_until_complete(self.admin.close()))

    def close(self) -> None:
        self._owned.close()


@pytest.fixture
def shared() -> Iterator[Shared]:
    made = Shared()
    yield made
    made.close()


class FlusherMachine(RuleBasedStateMachine):
    """What a rule may do depends on nothing that takes time."""

    shared: ClassVar[Shared]

    def __init__(self) -> None:
        super().__init__()
        self.world = World(self.shared.server, self.shared.admin, self.shared.loop)
        self.world.start()
        self.shared.counts["examples"] += 1

    @property
    def is_running(self) -> bool:
        return self.world.task is not None

    def at_work(self) -> World:
        self.shared.counts["steps"] += 1
        return self.world

    @rule(groups=st.integers(1, 12), seed=st.integers(0, 1 << 30),
          ms=st.sampled_from([0, 1, 5, 20]))  # fmt: skip
    def append_groups(self, groups: int, seed: int, ms: int) -> None:
        world, rng = self.at_work(), random.Random(seed)
        for _ in range(groups):
            kinds = [rng.random() < POISON_RATE for _ in range(rng.randint(1, 5))]
            world.append(kinds)
            self.shared.counts["poison"] += sum(kinds)
        world.let_go_on(ms / 1000)

    @rule(lost=st.sampled_from([0, 0, 0, 1, 7]))
    def next_segment(self, lost: int) -> None:
        self.at_work().segment(lost)
        self.shared.counts["gap"] += bool(lost)

    @precondition(lambda self: self.is_running)
    @rule(ms=st.sampled_from([0, 1, 3, 10, 30]))
    def go_on(self, ms: int) -> None:
        self.at_work().let_go_on(ms / 1000)

    @precondition(lambda self: self.is_running)
    @rule(to=st.integers(1, 9000), back=st.integers(1, 9000), ms=st.sampled_from([0, 5, 30]))
    def cut_the_next_connection(self, to: int, back: int, ms: int) -> None:
        world = self.at_work()
        before = world.proxy.cuts
        world.limits = (to, back)
        world.kill_backend()
        world.let_go_on(ms / 1000)
        self.shared.counts["cut"] += world.proxy.cuts - before

    @precondition(lambda self: self.is_running)
    @rule()
    def kill_the_backend(self) -> None:
        self.shared.counts["killed backend"] += self.at_work().kill_backend()

    @rule()
    def take_a_snapshot(self) -> None:
        self.at_work().take_snapshot()

    @rule(which=st.floats(0, 0.999))
    def rewind_postgresql(self, which: float) -> None:
        world = self.at_work()
        if world.snapshots:
            to = world.snapshots[int(which * len(world.snapshots))]
            self.shared.counts["rewind"] += world.rewind(to)

    @rule(drain=st.booleans(), pause=st.booleans())
    def restart_the_flusher(self, drain: bool, pause: bool) -> None:
        world = self.at_work()
        if world.task is not None:
            world.stop(drain=drain)
        if not pause:
            world.start()
        self.shared.counts["restart"] += 1

    @precondition(lambda self: self.is_running)
    @rule(right=st.booleans())
    def accept_a_gap(self, right: bool) -> None:
        world = self.at_work()
        gap, flusher = world.gap_shown(), world.flusher
        if gap is not None and flusher is not None:
            flusher.accept_gap(gap[0], gap[1] if right else gap[1] + 1)
            self.shared.counts["accepted gap"] += right

    @rule()
    def trim_the_log(self) -> None:
        self.shared.counts["trimmed segment"] += self.at_work().trim()

    @precondition(lambda self: self.is_running)
    @rule()
    def settle(self) -> None:
        self.at_work().settle()

    @invariant()
    def all_is_there_once_and_in_order(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        try:
            if self.world.task is None:
                self.world.start()
            self.world.settle()
            self.world.check()
            self.shared.rows += self.world.rig.board.get("durability", "durable_seq")
        finally:
            self.world.close()


@pytest.mark.timeout(600)
def test_whatever_happens_postgresql_holds_the_log_up_to_its_position(
    shared: Shared, attack: Attack, capsys: pytest.CaptureFixture[str]
) -> None:
    examples, steps, seconds = FULL if attack.full else FAST
    chosen = settings(
        max_examples=EXAMPLES_EACH,
        stateful_step_count=steps,
        deadline=None,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        print_blob=False,
        # What fails once may not fail again: time is in it. It is not made smaller.
        phases=(Phase.generate,),
    )
    bound = type("FlusherMachine", (FlusherMachine,), {"shared": shared})
    until = time.monotonic() + seconds
    for batch in range(examples // EXAMPLES_EACH):
        if time.monotonic() > until:
            break
        seeded = hypothesis.seed(attack.seed + batch)(bound)
        run_state_machine_as_test(seeded, settings=chosen)
    with capsys.disabled():
        print(f"\n{dict(shared.counts)}")
    attack.report(
        Outcome(
            attack="flusher machine: cuts, kills, rewinds, gaps, poison, trims",
            cases=shared.counts["steps"],
            acknowledged=shared.rows,
        )
    )
