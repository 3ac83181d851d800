"""What a producer remembers of its verdicts."""

import pytest

from certeus.receipts import Entry, Receipts, Verdict


def accepted(ticket: int, length: int, seq: int) -> Entry:
    return Entry(ticket, length, seq, 1, "accepted", "")


def rejected(ticket: int) -> Entry:
    return Entry(ticket, 1, 0, 0, "rejected", "too-deep")


def test_what_a_new_session_tells_again_counts_once() -> None:
    receipts = Receipts()
    receipts.record("log", 3, [rejected(1), accepted(2, 2, 10)])
    receipts.record("log", 5, [rejected(1), accepted(2, 4, 10)])
    assert (receipts.settled, receipts.accepted, receipts.rejected) == (5, 4, 1)
    told = receipts.tell_rejections(5)
    assert told is not None
    assert [rejection.ticket for rejection in told.rejections] == [1]
    assert receipts.tell_rejections(5) is None
    for ticket in (2, 3, 4, 5):
        found = receipts.find(ticket)
        assert found is not None
        assert (found.seq, found.verdict) == (ticket + 8, Verdict.ACCEPTED)


def test_what_is_forgotten_is_not_taken_for_accepted() -> None:
    receipts = Receipts(kept=10)
    receipts.record("log", 3, [rejected(1), rejected(3)])
    assert [count for count, receipt in receipts.runs(1, 3) if receipt is None] == [1]
    receipts.record("log", 100, [rejected(ticket) for ticket in range(5, 101, 2)])
    with pytest.raises(LookupError, match="not kept"):
        list(receipts.runs(2, 3))
    assert [receipt is None for _, receipt in receipts.runs(96, 99)] == [True, False, True, False]


def test_what_is_needed_is_not_forgotten() -> None:
    receipts = Receipts(kept=10)
    receipts.needed = 3
    receipts.record("log", 101, [rejected(ticket) for ticket in range(1, 102)])
    assert sum(receipt is not None for _, receipt in receipts.runs(3, 101)) == 99
    receipts.needed = 102
    receipts.record("log", 102, [])
    with pytest.raises(LookupError):
        list(receipts.runs(3, 101))
