"""Dead letters tried again or dropped: each event in one table, the row as it would have been."""

import asyncio
import base64
import json
import os
import tempfile
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certeusd._native import Batch
from certeusd.flush import letters, schema
from certeusd.log.reader import LogReader
from support.cutting_proxy import CuttingProxy
from support.flushing import (
    LOCK,
    NOON_NS,
    UNLOCK,
    Rig,
    block_at,
    blocked_in_copy,
    gaps,
    query,
    seqs,
    trigger,
)
from support.letters_desk import Desk, answers_again, execute, question
from support.postgres import Server

pytestmark = pytest.mark.integration

REFUSE = "ALTER TABLE certeus.events ADD CONSTRAINT odd CHECK ({})"
ALLOW = "ALTER TABLE certeus.events DROP CONSTRAINT odd"
COLUMNS = (
    "SELECT (row_to_json(e)::jsonb - 'seq' - 'ticket')::text AS rest, data::text AS raw,"
    " pg_typeof(data)::text AS kind, tableoid::regclass::text AS leaf, log_id, recorded_at"
    " FROM certeus.events e WHERE ticket % 2 = $1 ORDER BY seq"
)


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A directory whose sockets' paths are short enough for AF_UNIX."""
    with tempfile.TemporaryDirectory(prefix="certeus-", dir="/tmp") as folder:
        yield Path(folder)


async def refuse(dsn: str, condition: str) -> None:
    async with query(dsn) as connection:
        await connection.execute(schema.ddl())
        await connection.execute(REFUSE.format(condition))


async def deliver(rig: Rig, dsn: str) -> None:
    """All that the rig has, dead letters included."""
    async with rig.flusher(dsn, dead_letters_percent_max=100.0):
        rig.durable()
        await rig.flushed()


async def places(dsn: str) -> list[int]:
    """Every seq that is somewhere, each as often as it is there."""
    found = await seqs(dsn) + await seqs(dsn, "dead_letters")
    for first, last, _ in await gaps(dsn):
        found += range(first, last + 1)
    return sorted(found)


@pytest.mark.parametrize("data", ["json", "jsonb"])
def test_a_letter_becomes_the_row_that_it_would_have_been(
    rig: Rig, database: str, data: Literal["json", "jsonb"]
) -> None:
    rig.begin()
    log = rig.log
    log.producer(2, "other-tenant", "second")
    ticket = 0
    for no in (1, 2):
        for more, content in (
            ({"id": "o", "subject": 'Grüße "\\\t', "time": "2026-07-01T12:00:00.123456789+02:00",
              "source": "own", "dataschema": "urn:x", "content_type": "application/json",
              "extensions": '{"traceparent":"00-1"}', "escalated": True},
             b'{ "b" : 1.0, "a":1e400, "a":2, "text":"\\u00e9" }'),
            ({"content_type": "image/x", "opaque": True}, b"\x00\xff"),
            ({"content_type": "image/x", "opaque": True}, b""),
            ({}, b""), ({}, b"null"), ({}, b'"text"'),
        ):  # fmt: skip
            for _ in range(2):
                ticket += 1
                log.record(no, ticket, "t", content, **more)  # type: ignore[arg-type]  # by name
    rig.log.commit(NOON_NS + 1_999)

    async def run() -> None:
        await execute(database, schema.ddl(data))
        await execute(database, REFUSE.format("ticket % 2 = 1"))
        await deliver(rig, database)
        assert len(await seqs(database, "dead_letters")) == 12
        await execute(database, ALLOW)
        answer = await Desk(rig, database).ask("retry")
        assert answer == {"schema_version": 1, "delivered": 12, "refused": 0, "next_seq": None}
        async with query(database) as connection:
            direct, retried = [await connection.fetch(COLUMNS, odd) for odd in (1, 0)]
            assert [tuple(row) for row in retried] == [tuple(row) for row in direct]
            assert len(retried) == 12

    asyncio.run(run())


TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=20)
EVENTS = st.fixed_dictionaries(
    {"data": st.one_of(st.just(b""), TEXT.map(lambda text: json.dumps(text).encode()))},
    optional={"id": TEXT, "subject": TEXT, "source": TEXT, "dataschema": TEXT,
              "content_type": TEXT, "escalated": st.booleans(), "opaque": st.booleans(),
              "extensions": st.dictionaries(st.sampled_from(["a", "b1"]), TEXT).map(json.dumps)},
)  # fmt: skip


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(events=st.lists(EVENTS, min_size=1, max_size=8))
def test_any_event_is_the_same_row_whether_it_was_refused_first_or_not(
    database: str, events: list[dict[str, object]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rig = Rig(Path(folder) / "state")
        rig.begin()
        for at, event in enumerate(events):
            for twin in (1, 2):
                rig.log.record(1, 2 * at + twin, "t", **event)  # type: ignore[arg-type]  # by name
        rig.log.commit(NOON_NS)

        async def run() -> None:
            await execute(database, "DROP SCHEMA IF EXISTS certeus CASCADE")
            await refuse(database, "ticket % 2 = 1")
            await deliver(rig, database)
            await execute(database, ALLOW)
            await Desk(rig, database).ask("retry")
            async with query(database) as connection:
                direct, retried = [await connection.fetch(COLUMNS, odd) for odd in (1, 0)]
                assert [tuple(row) for row in retried] == [tuple(row) for row in direct]
                assert len(retried) == len(events)

        asyncio.run(run())
        rig.close()


def test_what_is_refused_again_stays_with_its_new_reason(rig: Rig, database: str) -> None:
    rig.begin()
    rig.append(10)

    async def run() -> None:
        await refuse(database, "ticket > 4")
        await deliver(rig, database)
        await execute(database, ALLOW)
        refused = trigger("stop", "BEGIN RAISE 'number %', NEW.seq; END", "NEW.seq IN (2, 3)")
        await execute(database, refused)
        desk = Desk(rig, database)
        answer = await desk.ask("retry", 1, 3)
        assert answer == {"schema_version": 1, "delivered": 1, "refused": 2, "next_seq": None}
        assert await seqs(database, "dead_letters") == [2, 3, 4]
        async with query(database) as connection:
            rows = await connection.fetch(
                "SELECT sqlstate, reason, event->'data'->>'n' AS n, record"
                " FROM certeus.dead_letters WHERE seq < 4 ORDER BY seq"
            )
        assert [(row["sqlstate"], row["n"]) for row in rows] == [("P0001", "2"), ("P0001", "3")]
        assert rows[0]["reason"] == "number 2"
        assert rows[0]["record"].endswith(b'{"n": 2}')
        assert desk.counts == [3]
        await execute(database, "DROP TRIGGER stop ON certeus.events")
        await desk.ask("retry")
        assert await places(database) == list(range(1, 11))
        assert await seqs(database) == list(range(1, 11))
        assert desk.counts == [3, 0]

    asyncio.run(run())


def test_a_trigger_that_leaves_a_row_out_in_silence_leaves_the_letter(
    rig: Rig, database: str
) -> None:
    rig.begin()
    rig.append(3)

    async def run() -> None:
        async with query(database) as connection:
            await connection.execute(schema.ddl())
            await connection.execute(trigger("odd", "BEGIN RETURN NULL; END", "NEW.ticket = 2"))
        await deliver(rig, database)
        answer = await Desk(rig, database).ask("retry")
        assert answer == {"schema_version": 1, "delivered": 0, "refused": 1, "next_seq": None}
        assert await seqs(database, "dead_letters") == [2]
        assert await places(database) == [1, 2, 3]

    asyncio.run(run())


def test_pages_go_on_where_they_ended_and_touch_no_other(rig: Rig, database: str) -> None:
    rig.begin()
    rig.append(300)

    async def run() -> None:
        await refuse(database, "ticket > 250")
        await deliver(rig, database)
        await execute(database, ALLOW)
        desk = Desk(rig, database)
        first = await desk.ask("retry", 11, 240)
        assert first == {"schema_version": 1, "delivered": 100, "refused": 0, "next_seq": 111}
        assert await seqs(database, "dead_letters") == [*range(1, 11), *range(111, 251)]
        page = await desk.ask("list", 6, limit=7)
        assert [one["seq"] for one in page["dead_letters"]] == [*range(6, 11), 111, 112]
        assert page["next_seq"] == 113
        assert page["dead_letters"][0]["event"] is None
        none = await desk.ask("list", limit=5, reason="no such thing")
        assert none == {"schema_version": 1, "dead_letters": [], "next_seq": None}
        some = await desk.ask("list", limit=1, reason="23514")
        assert (some["dead_letters"][0]["seq"], some["next_seq"]) == (1, 2)
        assert await places(database) == list(range(1, 301))

    asyncio.run(run())


def test_a_whole_letter_has_its_event_byte_for_byte(rig: Rig, database: str) -> None:
    rig.begin()
    rig.log.record(1, 1, "t", b'{"a":1e400, "b":1.0}', id="x", extensions='{"ext":"e"}')
    rig.log.record(1, 2, "blob", b"\x00\xff", opaque=True)
    rig.log.record(1, 3, "big", b'"' + b"x" * 900_000 + b'"')
    rig.log.record(1, 4, "big", b'"' + b"y" * 900_000 + b'"')
    rig.log.commit(NOON_NS)

    async def run() -> None:
        await refuse(database, "false")
        await deliver(rig, database)
        desk = Desk(rig, database)
        asked = question("list", limit=10, whole=True)
        _, body = await desk.had(desk.put(asked))
        assert b'"data": {"a":1e400, "b":1.0}}' in body
        page = json.loads(body)
        # Pages are bounded in bytes, too.
        assert ([one["seq"] for one in page["dead_letters"]], page["next_seq"]) == ([1, 2, 3], 4)
        full, blob, _ = page["dead_letters"]
        assert (full["tenant"], full["source"], full["id"]) == ("default", "check", "x")
        assert (full["event"]["ext"], full["event"]["source"]) == ("e", "check")
        assert full["recorded_at"].endswith("Z")
        assert base64.b64decode(blob["event"]["data_base64"]) == b"\x00\xff"
        batch = LogReader(rig.log_dir).next_batch(9, 9, 1)
        assert batch is not None
        assert full["bytes"] == len(batch.record(0))

    asyncio.run(run())


def test_dropped_letters_are_named_in_gaps_and_nothing_else_is(rig: Rig, database: str) -> None:
    rig.begin()
    rig.append(20)

    async def run() -> None:
        await refuse(database, "ticket NOT IN (3, 4, 5, 9, 15, 16)")
        await deliver(rig, database)
        desk = Desk(rig, database)
        answer = await desk.ask("drop", 4, 15, by="uid 7")
        assert answer == {"schema_version": 1, "dropped": 4, "next_seq": None}
        why = "dropped by uid 7"
        assert await gaps(database) == [(4, 5, why), (9, 9, why), (15, 15, why)]
        assert await seqs(database, "dead_letters") == [3, 16]
        assert await places(database) == list(range(1, 21))
        again = await desk.ask("drop", 4, 15, by="uid 7")
        assert again == {"schema_version": 1, "dropped": 0, "next_seq": None}
        assert len(await gaps(database)) == 3
        assert desk.counts == [2, 2]

    asyncio.run(run())


def test_two_retries_and_a_drop_at_once_beside_the_delivery_give_each_event_one_place(
    rig: Rig, database: str
) -> None:
    rig.begin()
    rig.append(60)

    async def run() -> None:
        await refuse(database, "ticket > 40")
        await deliver(rig, database)
        await execute(database, ALLOW)
        async with query(database) as holder:
            await holder.execute(block_at(20))
            await holder.execute(LOCK)
            desk = Desk(rig, database)
            first = desk.put(question("retry"))
            await blocked_in_copy(holder)
            others = [desk.put(question("retry")), desk.put(question("drop", 15, 25, by="me"))]
            # The delivery is in nobody's way, nor anybody in its.
            rig.append(500)
            async with rig.flusher(database):
                rig.durable()
                await rig.flushed()
            assert first not in desk.answers
            await holder.execute(UNLOCK)
            for number in (first, *others):
                answer, _ = await desk.had(number)
                # Who waited too long, or met the other in a circle, has changed nothing.
                assert answer.problem in ("", "postgres-away")
        assert await places(database) == list(range(1, 561))
        assert set(range(1, 15)) <= set(await seqs(database))

    asyncio.run(run())


def test_a_server_that_is_killed_amid_a_retry_leaves_each_event_in_one_place(
    rig: Rig, postgres: Server, database: str
) -> None:
    rig.begin()
    rig.append(30)

    async def run() -> None:
        await refuse(database, "ticket > 20")
        await deliver(rig, database)
        await execute(database, ALLOW)
        holder = await asyncpg.connect(database)
        await holder.execute(block_at(10))
        await holder.execute(LOCK)
        desk = Desk(rig, database)
        number = desk.put(question("retry"))
        await blocked_in_copy(holder)
        postgres.kill()
        answer, _ = await desk.had(number)
        assert answer.problem == "postgres-away"
        holder.terminate()
        assert (await desk.refused("drop")).problem == "postgres-away"
        postgres.start()
        await answers_again(database)
        assert await seqs(database, "dead_letters") == list(range(1, 21))
        assert await places(database) == list(range(1, 31))
        await desk.ask("retry")
        assert await seqs(database) == list(range(1, 31))

    asyncio.run(run())


def test_a_connection_cut_at_any_byte_leaves_each_event_in_one_place(
    rig: Rig, postgres: Server, database: str, short_folder: Path
) -> None:
    rig.begin()
    rig.append(60)
    name = urllib.parse.urlsplit(database).path[1:]

    def limits(number: int) -> tuple[int, int] | None:
        # What comes first is a few KiB; each retry gets a little further than the one before.
        return (1 << 30, 4000 + 700 * number) if number % 2 else (2000 + 500 * number, 1 << 30)

    async def run() -> None:
        await refuse(database, "ticket > 50")
        await deliver(rig, database)
        await execute(database, ALLOW)
        proxy = CuttingProxy(postgres.socket_path(), limits)
        async with proxy.listening(short_folder) as host:
            desk = Desk(rig, f"postgresql://postgres@/{name}?host={host}")
            for first in range(1, 51, 2):
                # Each page has two letters, and each cut leaves both in one table or the other.
                await desk.had(desk.put(question("retry", first, first + 1)))
                assert await places(database) == list(range(1, 61))
        assert proxy.cuts >= 5
        await Desk(rig, database).ask("retry")
        assert await seqs(database) == list(range(1, 61))

    asyncio.run(run())


def test_without_the_grant_nothing_is_done_and_the_grant_is_told(rig: Rig, database: str) -> None:
    rig.begin()
    rig.append(3)

    async def run() -> None:
        await refuse(database, "ticket > 1")
        await deliver(rig, database)
        await execute(database, ALLOW)
        await execute(
            database,
            "DROP ROLE IF EXISTS modest; CREATE ROLE modest LOGIN;"
            " GRANT USAGE ON SCHEMA certeus TO modest; GRANT SELECT, INSERT, UPDATE ON ALL TABLES"
            " IN SCHEMA certeus TO modest; GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA certeus TO"
            " modest",
        )
        desk = Desk(rig, database.replace("postgres@", "modest@"))
        for verb in ("retry", "drop"):
            answer = await desk.refused(verb)
            assert answer.problem == "postgres-refuses"
            assert "GRANT DELETE ON certeus.dead_letters" in answer.detail
        assert await places(database) == [1, 2, 3]
        await execute(database, "GRANT DELETE ON certeus.dead_letters TO modest")
        await desk.ask("retry")
        assert await seqs(database) == [1, 2, 3]
        await execute(database, "DROP OWNED BY modest; DROP ROLE modest")

    asyncio.run(run())


def test_a_letter_that_somebody_changed_is_never_guessed(rig: Rig, database: str) -> None:
    rig.begin()
    rig.append(3)

    async def run() -> None:
        await refuse(database, "false")
        await deliver(rig, database)
        await execute(database, ALLOW)
        await execute(database, "UPDATE certeus.dead_letters SET event = NULL WHERE seq = 1")
        await execute(database, r"UPDATE certeus.dead_letters SET record = '\x00' WHERE seq = 2")
        desk = Desk(rig, database)
        answer = await desk.ask("retry")
        assert answer == {"schema_version": 1, "delivered": 1, "refused": 2, "next_seq": None}
        page = await desk.ask("list", limit=9, whole=True)
        told = [(one["sqlstate"], one["reason"]) for one in page["dead_letters"]]
        assert told[0] == ("22000", "cannot deliver seq 1 again: its letter does not say of which"
                           " tenant it is")  # fmt: skip
        assert "it is no event" in told[1][1]
        assert page["dead_letters"][1]["event"] is None

    asyncio.run(run())


def test_rows_of_a_day_that_retention_dropped_get_their_leaf_again(rig: Rig, database: str) -> None:
    rig.begin()
    rig.append(3, NOON_NS - 40 * 86_400_000_000_000)

    async def run() -> None:
        await refuse(database, "ticket > 1")
        await deliver(rig, database)
        await execute(database, ALLOW)
        await execute(database, "SELECT certeus.drop_leaves('2099-01-01')")
        await Desk(rig, database).ask("retry")
        assert await seqs(database) == [1]

    asyncio.run(run())


def test_a_letter_that_is_past_retention_stays_one(rig: Rig, database: str) -> None:
    rig.begin()
    rig.append(2, NOON_NS - 40 * 86_400_000_000_000)

    async def run() -> None:
        await refuse(database, "false")
        await deliver(rig, database)
        await execute(database, ALLOW)
        done = await Desk(rig, database, retention_days=10).ask("retry")
        assert (done["delivered"], done["refused"]) == (0, 2)
        assert await seqs(database) == []
        done = await Desk(rig, database).ask("retry")
        assert (done["delivered"], done["refused"]) == (2, 0)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("seqs_", "expected"),
    [([], []), ([5], [(5, 5)]), ([1, 2, 3, 7, 9, 10], [(1, 3), (7, 7), (9, 10)])],
)
def test_runs_name_each_number_once(seqs_: list[int], expected: list[tuple[int, int]]) -> None:
    assert letters.runs(seqs_) == expected


def test_garbage_is_no_record() -> None:
    for record in (b"", b"\x00" * 40, os.urandom(64)):
        with pytest.raises(ValueError, match="it is no event"):
            Batch.of_record(record, 7, 0, None)
