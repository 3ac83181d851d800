"""What became of the events of a request, while a ticket before them is not settled."""

from types import SimpleNamespace
from typing import cast

from certeusd.api.refusals import Refusal
from certeusd.api.verdicts import Verdicts
from certeusd.door import Door


def test_refusals_behind_an_unsettled_ticket_are_one_piece() -> None:
    verdicts = Verdicts(cast(Door, SimpleNamespace(settled_ticket=0)))
    verdicts.begin([])
    verdicts.appended(range(1, 2))
    verdicts.end()
    for _ in range(1000):
        verdicts.begin([Refusal(0, 4096, "invalid-json")])
        verdicts.end()
        assert not verdicts.take()
    assert verdicts.pieces == 2
    assert (verdicts.seen, verdicts.pending, verdicts.first_untaken) == (4_096_001, 4_096_001, 1)


def test_what_found_no_room_is_not_seen_nor_what_was_refused_behind_it() -> None:
    verdicts = Verdicts(cast(Door, SimpleNamespace(settled_ticket=0)))
    verdicts.begin([Refusal(0, 2, "a"), Refusal(4, 1, "b"), Refusal(9, 1, "a")])
    verdicts.appended(range(1, 2))
    verdicts.appended(range(2, 3))
    verdicts.end()
    assert (verdicts.seen, verdicts.last_ticket, verdicts.pieces) == (5, 2, 4)
    verdicts.take()
    assert (verdicts.rejected, verdicts.pending) == (2, 3)
