"""Compares what producers were told with the rows that are there, to the byte.

What a killed producer had in flight may be there or not; what any producer was told must be there,
once, in its order, with the ``seq`` that it was told; nothing else may be there.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, fields

import asyncpg

from support.attack import Verdict, compare
from support.soak_events import BACK, OPAQUE, TYPE, Kind, Sent, kind_of, sent
from support.soak_load import Life, Load
from support.soak_page import Field, Told
from support.soak_producer import old_resent

ROWS = """
SELECT seq, tenant, source, id, type, subject, time, dataschema, content_type, verdict,
       data::text AS data, data_bytes, extensions::text AS extensions
FROM certeus.events ORDER BY log_id, seq
"""


@dataclass
class Judged:
    """What a comparison found, over all lives."""

    acknowledged: int = 0
    rows: int = 0
    rejections: int = 0
    duplicates: int = 0
    lost: int = 0
    doubled: int = 0
    reordered: int = 0

    def add(self, verdict: Verdict) -> None:
        self.lost += verdict.lost
        self.doubled += verdict.doubled
        self.reordered += verdict.reordered

    def merge(self, other: "Judged") -> None:
        for field in fields(other):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


class Oracle:
    """Reads the rows once; `judge` then goes through every life."""

    def __init__(self, dsn: str) -> None:
        rows = asyncio.run(_fetch(dsn))
        seqs = [row["seq"] for row in rows]
        assert seqs == list(range(1, len(seqs) + 1)), "seq has holes or doubles"
        self.rows = [row for row in rows if row["type"] == TYPE]
        self.by_subject: dict[str, asyncpg.Record] = {}
        self.found: dict[int, list[int]] = {}
        for row in self.rows:
            self.by_subject[row["subject"]] = row
            life, number = row["subject"].split(".")
            self.found.setdefault(int(life), []).append(int(number))

    def judge(self, load: Load) -> Judged:
        """Compare everything."""
        judged = Judged(rows=len(self.rows))
        lives = {life.number: life for life in load.lives}
        assert set(self.found) <= set(lives), "rows of a producer that never was"
        for life in load.lives:
            self._judge_life(life, lives, judged)
        judged.lost += sum(self._differs(row, lives) for row in self.rows)
        return judged

    def _judge_life(self, life: Life, lives: dict[int, Life], judged: Judged) -> None:
        page = life.page
        last = page.get(Field.INTENDED)
        settled = page.get(Field.SETTLED)
        acknowledged: list[int] = []
        possible: set[int] = set()
        for ticket, owner, number in offered(life, last):
            told = page.verdict(ticket)
            assert told or ticket > settled, f"life {life.number}: {ticket} settled and not told"
            kind = kind_of(number, life.with_ids)
            if told:
                judged.acknowledged += 1
                self._check_verdict(life, ticket, owner, number, judged)
            # What was offered for a predecessor is compared among its events.
            if kind is Kind.GOOD and owner == life.number:
                (acknowledged if told else []).append(number)
                possible.add(number)
        if not life.killed:
            assert settled == page.get(Field.APPENDED), f"life {life.number} closed unsettled"
        judged.add(compare(acknowledged, self.found.get(life.number, []), also=possible))

    def _check_verdict(
        self, life: Life, ticket: int, owner: int, number: int, judged: Judged
    ) -> None:
        """The verdict, the ``seq`` told with it, and how often a rejection was told."""
        page = life.page
        verdict, seq = page.verdict(ticket), page.seq(ticket)
        kind = kind_of(number, life.with_ids)
        mine = owner == life.number
        told = page.told(ticket)
        where = f"life {life.number}, ticket {ticket}: event {owner}.{number} ({kind.name})"
        if kind in (Kind.BAD, Kind.CONFLICT):
            judged.rejections += 1
            assert verdict == Told.REJECTED, f"{where} was not rejected but {verdict}"
            assert told == 1 or (life.killed and told == 0), f"{where} was told {told} times"
            if kind is Kind.BAD:
                return
        else:
            assert told == 0, f"{where} was told as rejected"
            if kind is Kind.AGAIN:
                assert verdict == Told.DUPLICATE, f"{where} is no duplicate but {verdict}"
            elif mine:
                accepted = (Told.ACCEPTED, Told.ACCEPTED_WITHOUT_RECEIPT)
                assert verdict in accepted, f"{where} was not accepted but {verdict}"
            else:
                assert verdict != Told.REJECTED, f"{where} was rejected"
        if verdict == Told.DUPLICATE:
            judged.duplicates += 1
        if verdict != Told.ACCEPTED_WITHOUT_RECEIPT:
            there = number if kind is Kind.GOOD else number - BACK
            row = self.by_subject.get(f"{owner}.{there}")
            assert row is None or row["seq"] == seq, f"{where}: told seq {seq}, row {row['seq']}"
            judged.lost += row is None

    def _differs(self, row: asyncpg.Record, lives: dict[int, Life]) -> bool:
        """Whether a row is not, to the byte, what was appended."""
        life, number = (int(part) for part in row["subject"].split("."))
        expected = sent(lives[life].source, life, number, lives[life].with_ids)
        opaque = expected.content_type == OPAQUE
        data = row["data_bytes"] if opaque else row["data"].encode()
        there = Sent(
            row["source"], row["id"], row["type"], row["subject"], row["time"], row["dataschema"],
            row["content_type"], row["extensions"], data,
        )  # fmt: skip
        assert (row["data"] is None) == opaque
        assert (row["tenant"], row["verdict"]) == ("default", "accepted")
        return there != expected


def offered(life: Life, last: int) -> Iterator[tuple[int, int, int]]:
    """Ticket, whose event, and its number there, of everything that a life may have appended."""
    first, again = life.page.get(Field.RESENT_FROM), old_resent(life.page)
    for ticket in range(1, last + 1):
        if ticket <= again:
            yield ticket, life.predecessor, first + ticket - 1
        else:
            yield ticket, life.number, ticket - again


async def _fetch(dsn: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(ROWS)
        assert await connection.fetchval("SELECT count(*) FROM certeus.dead_letters") == 0
        assert await connection.fetchval("SELECT count(*) FROM certeus.gaps") == 0
    finally:
        await connection.close()
    return list(rows)
