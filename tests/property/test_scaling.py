"""The number of workers under any load: within its bounds, at rest after a change, at peace."""

from hypothesis import given
from hypothesis import strategies as st

from certeusd.supervisor.scaling import Bounds, Load, Rule, Scaling

RULE = Rule(busy_s=3.0, idle_s=6.0, rest_before_more_s=5.0, rest_before_fewer_s=20.0)

between = st.tuples(st.integers(1, 8), st.integers(1, 8)).map(
    lambda pair: Bounds(min(pair), max(pair))
)
loads = st.builds(
    Load, st.just("worker-0"), st.sampled_from([0.0, 20.0, 34.9, 36.0, 79.0, 81.0, 100.0]),
    st.integers(0, 3), st.booleans(), st.sampled_from([True, True, True, False]),
)  # fmt: skip


@given(between, st.lists(st.tuples(loads, st.integers(1, 40)), max_size=30), st.data())
def test_it_stays_within_its_bounds_and_rests_after_each_change(
    bounds: Bounds, course: list[tuple[Load, int]], data: st.DataObject
) -> None:
    policy, now = Scaling(RULE), 0.0
    current = data.draw(st.integers(bounds.min, bounds.max))
    changed_at = 0.0
    for load, seconds in course:
        for _ in range(seconds):
            change = policy.decide(current, bounds, load, now)
            if change is not None:
                assert bounds.min <= change.workers <= bounds.max
                assert abs(change.workers - current) == 1
                more = change.workers > current
                rest_s = RULE.rest_before_more_s if more else RULE.rest_before_fewer_s
                assert now - changed_at >= rest_s
                current, changed_at = change.workers, now
            now += 1.0


class Machine:
    """Workers with sessions, each of which uses so much of a CPU, always the same."""

    def __init__(self, loads: list[float], workers: int) -> None:
        self.workers = [loads[at::workers] for at in range(workers)]

    def percent(self, at: int) -> float:
        return min(100.0, sum(self.workers[at]))

    @property
    def busiest(self) -> int:
        return max(range(len(self.workers)), key=self.percent)

    def load(self) -> Load:
        at = self.busiest
        active = sum(load > 0 for load in self.workers[at])
        return Load(f"worker-{at}", self.percent(at), active, waits=False, ready=True)

    def change(self, workers: int) -> None:
        """Do as workers do: every second session to the new one; who must go, to the fewest."""
        if workers > len(self.workers):
            held = sorted(self.workers[self.busiest], reverse=True)
            self.workers[self.busiest] = held[0::2]
            self.workers.append(held[1::2])
            return
        for load in self.workers.pop():
            min(self.workers, key=len).append(load)


@given(
    between,
    st.lists(st.sampled_from([0.0, 1.0, 10.0, 34.0, 36.0, 50.0, 79.0, 81.0, 250.0]), max_size=24),
    st.data(),
)
def test_a_load_that_stays_the_same_finds_its_number_and_keeps_it(
    bounds: Bounds, sessions: list[float], data: st.DataObject
) -> None:
    start = data.draw(st.integers(bounds.min, bounds.max))
    machine, policy, now = Machine(sessions, start), Scaling(RULE), 0.0
    steps = list[int]()
    while now < 1000.0:
        change = policy.decide(len(machine.workers), bounds, machine.load(), now)
        if change is not None:
            assert now < 500.0, "it has found its number by then"
            steps.append(change.workers - len(machine.workers))
            machine.change(change.workers)
        now += 1.0
    assert len(set(steps)) <= 1, f"up and down in turns: {steps}"
    assert len(steps) <= bounds.max - bounds.min
