"""What the log holds arrives as rows, byte for byte and once."""

import asyncio
import datetime
import json
from pathlib import Path

import pytest

from support.flushing import DAY_NS, NOON_NS, Rig, query, seqs

pytestmark = pytest.mark.integration

TEXT = 'Grüße "\U0001d518" \\ \t'


def test_every_column_arrives_as_it_was_logged(rig: Rig, database: str) -> None:
    data = b'{ "b" : 1.0, "a":1e2, "a":2, "text":"\\u00e9\xc3\xa9" }'
    rig.begin()
    rig.log.record(
        1,
        1,
        "payment",
        data,
        id="o-17",
        subject=TEXT,
        time="2026-07-01T12:00:00.123456789+02:00",
        source="other",
        dataschema="urn:x",
        content_type="application/json",
        extensions='{"traceparent":"00-1"}',
        escalated=True,
    )
    rig.log.record(1, 2, "blob", b"\x00\xff", content_type="image/x", opaque=True)
    rig.log.record(1, 3, "bare", b"")
    rig.log.commit(NOON_NS + 1_999)

    async def run() -> None:
        async with rig.flusher(database):
            rig.durable()
            await rig.flushed()
        async with query(database) as connection:
            rows = await connection.fetch(
                "SELECT *, data::text AS raw FROM certeus.events ORDER BY seq"
            )
            jsonb = await connection.fetchval(
                "SELECT data->>'a' FROM certeus.events_jsonb WHERE seq = 1"
            )
        full, blob, bare = (dict(row) for row in rows)
        assert full["raw"].encode() == data
        assert full["data_bytes"] is None
        assert (full["tenant"], full["source"], full["id"]) == ("default", "other", "o-17")
        assert (full["type"], full["subject"]) == ("payment", TEXT)
        # Nanoseconds are cut off: PostgreSQL keeps microseconds.
        expected = datetime.datetime(2026, 7, 1, 10, 0, 0, 123456, tzinfo=datetime.UTC)
        assert full["time"] == expected
        recorded_us = (NOON_NS + 1_999) // 1000
        epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
        assert full["recorded_at"] == epoch + datetime.timedelta(microseconds=recorded_us)
        assert (full["dataschema"], full["content_type"]) == ("urn:x", "application/json")
        assert json.loads(full["extensions"]) == {"traceparent": "00-1"}
        assert (full["verdict"], full["producer_no"], full["ticket"]) == ("escalated", 1, 1)
        assert (blob["data_bytes"], blob["data"]) == (b"\x00\xff", None)
        assert (blob["source"], blob["id"], blob["time"]) == ("check", None, None)
        assert (bare["data"], bare["data_bytes"], bare["verdict"]) == (None, None, "accepted")
        assert jsonb == "2"

    asyncio.run(run())


def test_jsonb_is_stored_when_it_is_configured(rig: Rig, database: str) -> None:
    rig.begin()
    rig.log.record(1, 1, "t", b'{"b":1,"a":2}')
    rig.log.commit(NOON_NS)

    async def run() -> None:
        async with rig.flusher(database, data="jsonb"):
            rig.durable()
            await rig.flushed()
        async with query(database) as connection:
            row = await connection.fetchrow(
                "SELECT pg_typeof(data)::text AS kind, data::text AS data FROM certeus.events"
            )
        assert row is not None
        assert (row["kind"], row["data"]) == ("jsonb", '{"a": 2, "b": 1}')

    asyncio.run(run())


def test_groups_on_both_sides_of_midnight_go_to_their_own_leaves(rig: Rig, database: str) -> None:
    rig.begin()
    rig.append(3, NOON_NS)
    rig.append(2, NOON_NS + DAY_NS)

    async def run() -> None:
        async with rig.flusher(database):
            rig.durable()
            await rig.flushed()
        async with query(database) as connection:
            rows = await connection.fetch(
                "SELECT tableoid::regclass::text AS leaf, count(*) AS rows FROM certeus.events"
                " GROUP BY 1 ORDER BY 1"
            )
        assert [row["rows"] for row in rows] == [3, 2]
        day = datetime.datetime.fromtimestamp(NOON_NS / 1e9, datetime.UTC)
        assert rows[0]["leaf"] == f"certeus.events_{day:%Y%m%d}"

    asyncio.run(run())


def test_many_groups_in_small_transactions_keep_their_order_and_number(
    rig: Rig, database: str
) -> None:
    rig.begin()
    for _ in range(40):
        rig.append(7)
    rig.log.segment(copy_last=True)
    rig.log.producer(1, "default", "check")
    for _ in range(40):
        rig.append(5)

    async def run() -> None:
        async with rig.flusher(database, batch_rows_max=20):
            rig.durable()
            await rig.flushed()
        assert await seqs(database) == list(range(1, 481))
        async with query(database) as connection:
            wrong = await connection.fetchval(
                "SELECT count(*) FROM certeus.events WHERE ticket <> seq OR source <> 'check'"
            )
        assert wrong == 0

    asyncio.run(run())


def test_a_restarted_flusher_goes_on_where_postgres_is(rig: Rig, database: str) -> None:
    rig.begin()
    rig.append(10)

    async def run() -> None:
        async with rig.flusher(database):
            rig.durable()
            await rig.flushed()
        rig.append(10)
        async with rig.flusher(database):
            rig.durable()
            await rig.flushed()
        assert await seqs(database) == list(range(1, 21))
        position = json.loads((rig.state_dir / "followers" / "postgres").read_text())
        assert (position["group"], position["seq"]) == (2, 20)
        assert position["log_uuid"] == str(rig.uuid)

    asyncio.run(run())


def test_trimming_is_allowed_only_below_what_the_synced_file_names(rig: Rig, database: str) -> None:
    rig.begin()
    rig.append(1)
    rig.log.segment()
    rig.log.producer(1, "default", "check")
    rig.append(1)

    async def run() -> None:
        async with rig.flusher(database):
            rig.durable(1)
            await rig.flushed(1)
            rig.durable()
            await rig.flushed()
        assert rig.board.get("follower", "trim_segment") == 2

    asyncio.run(run())


def test_two_logs_share_one_database(rig: Rig, database: str, tmp_path: Path) -> None:
    other = Rig(tmp_path / "other")
    for one in (rig, other):
        one.begin()
        one.append(5)

    async def run() -> None:
        async with rig.flusher(database), other.flusher(database):
            rig.durable()
            other.durable()
            await rig.flushed()
            await other.flushed()
        async with query(database) as connection:
            rows = await connection.fetch(
                "SELECT uuid, array_agg(seq ORDER BY seq) AS seqs FROM certeus.events"
                " JOIN certeus.logs USING (log_id) GROUP BY uuid"
            )
        assert {row["uuid"]: row["seqs"] for row in rows} == {
            rig.uuid: [1, 2, 3, 4, 5],
            other.uuid: [1, 2, 3, 4, 5],
        }

    asyncio.run(run())
    other.close()
