"""The journal's native protocol against a real datagram socket."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certeusd import log_journal
from certeusd.log_journal import Journal
from support.fake_journal import VALID_NAME, FakeJournal, parse

LARGE_BYTES = 12 << 20
"""More than a datagram may have: `net.core.wmem_max` bounds the send buffer."""


@pytest.fixture
def there(tmp_path: Path) -> Iterator[FakeJournal]:
    with FakeJournal(tmp_path / "journal") as end:
        yield end


@pytest.fixture
def to(there: FakeJournal) -> Iterator[Journal]:
    with closing(Journal(str(there.path))) as end:
        yield end


@given(st.dictionaries(st.text(), st.text(st.characters(exclude_categories=[])), max_size=6))
def test_any_key_and_any_text_is_a_record_that_the_journal_takes(given: dict[str, str]) -> None:
    named = {log_journal.field_name(key): text for key, text in given.items()}
    read = parse(log_journal.encode(named.items()))
    assert read == {name: text.encode(errors="backslashreplace") for name, text in named.items()}


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("worker", "WORKER"), ("a-b.c d", "A_B_C_D"), ("__trusted", "TRUSTED"), ("", "FIELD_"),
        ("2nd", "FIELD_2ND"), ("a=b\nc", "A_B_C"), ("über", "BER"), ("x" * 99, "X" * 64),
    ],
)  # fmt: skip
def test_a_key_becomes_the_nearest_valid_name(key: str, name: str) -> None:
    assert log_journal.field_name(key) == name
    assert VALID_NAME.fullmatch(name.encode())


def test_line_breaks_and_surrogates_arrive(there: FakeJournal, to: Journal) -> None:
    fields = {"MESSAGE": "one\ntwo=2\n", "NAME": "\udc80 = ü", "EMPTY": ""}
    assert to.send_nowait(log_journal.encode(fields.items()))
    assert there.receive() == {
        "MESSAGE": b"one\ntwo=2\n", "NAME": "\\udc80 = ü".encode(), "EMPTY": b"",
    }  # fmt: skip


def test_what_no_datagram_holds_comes_by_a_sealed_descriptor(
    there: FakeJournal, to: Journal
) -> None:
    assert to.send_nowait(log_journal.encode([("MESSAGE", "x" * LARGE_BYTES), ("N", "1")]))
    assert there.receive() == {"MESSAGE": b"x" * LARGE_BYTES, "N": b"1"}
    assert there.large == 1


@pytest.mark.parametrize("length", [1, LARGE_BYTES])
def test_a_full_journal_takes_nothing_and_nobody_waits(
    there: FakeJournal, to: Journal, length: int
) -> None:
    small, record = log_journal.encode([("N", "1")]), log_journal.encode([("N", "1" * length)])
    sent = 0
    while to.send_nowait(small):
        sent += 1
    assert not to.send_nowait(record)
    assert len(there.receive_all()) == sent
    assert to.send_nowait(record)
    assert there.receive() == {"N": b"1" * length}


def test_a_journal_that_comes_back_is_found_by_its_path(there: FakeJournal, to: Journal) -> None:
    there.vanish()
    with pytest.raises(FileNotFoundError):
        to.send_nowait(b"N=1\n")
    with FakeJournal(there.path) as successor:
        assert to.send_nowait(b"N=1\n")
        assert successor.receive() == {"N": b"1"}
