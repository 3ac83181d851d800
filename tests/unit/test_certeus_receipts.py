"""What a producer remembers of its verdicts."""

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
