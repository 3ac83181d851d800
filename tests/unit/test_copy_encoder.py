"""The COPY stream of a batch: every field, every range, every chunk size."""

import struct
from pathlib import Path

import pytest

from certeusd._native import COPY_COLUMNS, Batch, LogReader, SegmentBuilder
from support.copy_stream import rows_of

NOON_NS = 1_790_000_000_123_456_789
POSTGRES_EPOCH_US = 946_684_800_000_000


def long(value: int) -> bytes:
    return struct.pack(">q", value)


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    builder = SegmentBuilder(tmp_path, bytes(16), bytes(32))
    builder.segment()
    builder.producer(7, "acme", "check")
    builder.record(
        7,
        1,
        "payment",
        b'{"a":1}',
        id="o-1",
        subject="s",
        time="2000-01-01T00:00:01.0000019Z",
        source="other",
        dataschema="urn:d",
        content_type="application/json",
        extensions='{"x":"y"}',
        escalated=True,
    )
    builder.record(7, 2, "blob", b"\x00", opaque=True)
    builder.commit(NOON_NS)
    for ticket in range(3, 40):
        builder.record(7, ticket, "tick", b"%d" % ticket)
        builder.commit(NOON_NS + ticket)
    made = LogReader(tmp_path).next_batch(39, 1000, 1 << 20)
    assert made is not None
    return made


def test_every_column_is_encoded_as_postgres_reads_it(batch: Batch) -> None:
    rows = rows_of(batch.copy(0, batch.rows, 1 << 20, 5))
    first = dict(zip(COPY_COLUMNS, rows[0], strict=True))
    assert first == {
        "log_id": struct.pack(">i", 5),
        "seq": long(1),
        "recorded_at": long(NOON_NS // 1000 - POSTGRES_EPOCH_US),
        "time": long(1_000_001),
        "tenant": b"acme",
        "source": b"other",
        "id": b"o-1",
        "type": b"payment",
        "subject": b"s",
        "dataschema": b"urn:d",
        "content_type": b"application/json",
        "verdict": b"escalated",
        "producer_no": long(7),
        "ticket": long(1),
        "data": b'{"a":1}',
        "data_bytes": None,
        "extensions": b'{"x":"y"}',
    }
    second = dict(zip(COPY_COLUMNS, rows[1], strict=True))
    assert (second["data"], second["data_bytes"]) == (None, b"\x00")
    assert (second["source"], second["time"], second["id"]) == (b"check", None, None)


def test_jsonb_has_its_version_byte(batch: Batch) -> None:
    rows = rows_of(batch.copy(0, 2, 1 << 20, 5, jsonb=True))
    data = COPY_COLUMNS.index("data")
    assert (rows[0][data], rows[1][data]) == (b'\x01{"a":1}', None)


@pytest.mark.parametrize("chunk_bytes", [1, 300, 1 << 20])
def test_any_range_in_chunks_of_any_size_is_the_same_rows(batch: Batch, chunk_bytes: int) -> None:
    whole = rows_of(batch.copy(0, batch.rows, 1 << 20, 1))
    assert [row[1] for row in whole] == [long(seq) for seq in range(1, 40)]
    for first, end in [(0, 0), (0, 1), (3, 17), (38, 39), (0, 39)]:
        chunks = batch.copy(first, end, chunk_bytes, 1)
        assert rows_of(chunks) == whole[first:end]
        assert all(len(chunk) < chunk_bytes + 1000 for chunk in chunks)


def test_rows_that_are_not_there_are_refused(batch: Batch) -> None:
    for first, end in [(0, 40), (2, 1)]:
        with pytest.raises(IndexError, match="cannot encode"):
            batch.copy(first, end, 100, 1)
    with pytest.raises(IndexError, match="cannot read"):
        batch.event(39)


def test_an_event_is_told_with_cloudevents_names(batch: Batch) -> None:
    event = batch.event(0)
    assert event["seq"] == 1
    assert event["datacontenttype"] == "application/json"
    assert event["data"] == b'{"a":1}'
    assert event["tenant"] == "acme"
    assert not event["opaque"]
    assert batch.event(1)["opaque"]
    assert batch.record(0).endswith(b'{"a":1}')
