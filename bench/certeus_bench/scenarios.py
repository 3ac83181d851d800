"""Everything that can be measured, in the order in which it is: floors first, peers last."""

from certeus_bench import floors
from certeus_bench.scenario import Scenario

SCENARIOS: tuple[Scenario, ...] = (*floors.SCENARIOS,)
