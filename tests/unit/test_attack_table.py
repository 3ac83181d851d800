"""The oracle and the table of the attacks: they must be able to see harm."""

import pytest

from support.attack import Attack, Outcome, Verdict, compare, table


@pytest.mark.parametrize(
    ("acknowledged", "found", "verdict"),
    [
        ([1, 2, 3], [1, 2, 3], Verdict(0, 0, 0)),
        ([1, 2, 3], [1, 3], Verdict(1, 0, 0)),
        ([1, 2, 3], [1, 2, 2, 3], Verdict(0, 1, 0)),
        ([1, 2, 3], [1, 3, 2], Verdict(0, 0, 1)),
    ],
)
def test_oracle_counts_each_kind_of_harm(
    acknowledged: list[int], found: list[int], verdict: Verdict
) -> None:
    assert compare(acknowledged, found) == verdict


def test_oracle_allows_what_was_in_flight_and_nothing_else() -> None:
    assert compare([1, 2], [1, 2, 3], also={3, 4}) == Verdict(0, 0, 0)
    with pytest.raises(AssertionError, match="nobody appended"):
        compare([1, 2], [1, 2, 5], also={3, 4})


def test_report_of_harm_fails_and_still_stands_in_the_table() -> None:
    outcomes: list[Outcome] = []
    attack = Attack(full=False, seed=7, name="x", outcomes=outcomes)
    with pytest.raises(AssertionError, match="--seed 7"):
        attack.report(Outcome("a strike", cases=3, lost=1))
    assert outcomes == [Outcome("a strike", cases=3, lost=1)]
    assert table(outcomes)[1].split() == ["a", "strike", "3", "0", "0", "1", "0", "0", "0"]


def test_attack_that_never_struck_fails() -> None:
    attack = Attack(full=False, seed=7, name="x", outcomes=[])
    with pytest.raises(AssertionError, match="never struck"):
        attack.report(Outcome("a strike", cases=0))
