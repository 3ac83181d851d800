"""A connection cut at every byte of a batch's transaction, both ways: each row once, in order."""

import asyncio
import tempfile
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from certeusd.flush import schema
from certeusd.flush.breaker import Pause
from support.attack import Attack, Outcome, compare
from support.flushing import NOON_NS, Rig, query
from support.postgres import Server, installations, server
from support.window_proxy import Cut, WindowProxy

pytestmark = [pytest.mark.crash, pytest.mark.integration]

ROWS_EACH = 2
FAST_CASES = 25
COMMIT_ANSWER_BYTES = 17
"""CommandComplete `COMMIT` and ReadyForQuery: all that tells of the commit."""
# One statement, one snapshot: where the position is, and what is there.
STATE = """
SELECT (SELECT coalesce(max(seq), 0) FROM certeus.flush_position) AS position,
       count(*) AS rows, coalesce(max(seq), 0) AS last
FROM (SELECT seq FROM certeus.events UNION ALL SELECT seq FROM certeus.dead_letters) AS found
"""
ALL = """
SELECT seq, ticket, data::text AS data FROM certeus.events
UNION ALL SELECT seq, seq, event->>'data' FROM certeus.dead_letters
"""
ODD_ONES_ARE_REFUSED = "ALTER TABLE certeus.events ADD CONSTRAINT even CHECK (ticket % 2 = 0)"


@pytest.fixture(scope="module")
def newest() -> Iterator[Server]:
    with server(sorted(installations().items())[-1][1]) as running:
        yield running


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path / "state")
    yield made
    made.close()


def data_of(number: int) -> bytes:
    """Of one length for all, so that all batches have the same traffic."""
    return b'{ "n" : "%06d" }' % number


def append(rig: Rig, groups: int) -> None:
    for _ in range(groups):
        for _ in range(ROWS_EACH):
            rig.ticket += 1
            rig.log.record(1, rig.ticket, "tick", data_of(rig.ticket))
        rig.log.commit(NOON_NS)


class Watch:
    """Looks at the database before every connection: the position says exactly what is there."""

    def __init__(self, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self.connection = connection
        self.positions: list[int] = []

    async def look(self) -> None:
        row = await self.connection.fetchrow(STATE)
        assert row is not None
        assert row["position"] == row["rows"] == row["last"], f"{row} after {self.positions[-1:]}"
        self.positions.append(row["position"])


def chosen(attack: Attack, to_bytes: int, from_bytes: int, part: int) -> list[Cut]:
    """Every offset of both directions, or one in so many; fast: some. The commit's answer too."""
    every = [Cut("to", at) for at in range(to_bytes)]
    every += [Cut("from", at) for at in range(from_bytes)]
    if attack.full and part == 1:
        return every
    last = [Cut("from", from_bytes - COMMIT_ANSWER_BYTES), Cut("to", to_bytes - 1)]
    cases = len(every) // part if attack.full else FAST_CASES
    return last + attack.rng.sample(every, cases - len(last))


async def bytes_of_a_batch(rig: Rig, socket: str, watch: Watch, name: str) -> tuple[int, int]:
    """Makes the schema and delivers two batches uncut; what the second one's connection passed."""
    proxy = WindowProxy(socket, [], watch_nothing)
    with tempfile.TemporaryDirectory(prefix="certeus-", dir="/tmp") as folder:
        async with proxy.listening(Path(folder)) as host:
            for seq in (ROWS_EACH, 2 * ROWS_EACH):
                dsn = f"postgresql://postgres@/{name}?host={host}"
                async with rig.flusher(dsn, dead_letters_percent_max=100):
                    rig.durable(seq)
                    await rig.flushed(seq)
    await watch.look()
    passed = proxy.windows[-1].passed
    return passed["to"], passed["from"]


async def watch_nothing() -> None:
    return


@pytest.mark.timeout(400)
@pytest.mark.parametrize("connections", [1, 2])
@pytest.mark.parametrize("kind", ["stored", "refused"])
def test_a_connection_cut_at_every_byte_of_a_transaction_stores_each_row_once(
    newest: Server, rig: Rig, attack: Attack, kind: str, connections: int
) -> None:
    rig.begin()
    append(rig, 2)
    refused = kind == "refused"
    name = urllib.parse.urlsplit(newest.dsn()).path[1:]

    async def run() -> tuple[list[Cut], int, list[tuple[int, bytes]]]:
        async with query(newest.dsn()) as connection:
            await connection.execute("DROP SCHEMA IF EXISTS certeus CASCADE")
            await connection.execute(schema.ddl())
            if refused:
                await connection.execute(ODD_ONES_ARE_REFUSED)
            watch = Watch(connection)
            sizes = await bytes_of_a_batch(rig, newest.socket_path(), watch, name)
            # Two connections take longer, and cut each other's transactions short besides.
            cuts = chosen(attack, *sizes, 1 if connections == 1 else 4)
            # Beside a connection that is cut another one may have committed a batch or two.
            append(rig, (len(cuts) + 1) * (1 if connections == 1 else 4))
            proxy = WindowProxy(newest.socket_path(), cuts, watch.look)
            with tempfile.TemporaryDirectory(prefix="certeus-", dir="/tmp") as folder:
                async with (
                    proxy.listening(Path(folder)) as host,
                    rig.flusher(
                        f"postgresql://postgres@/{name}?host={host}",
                        away_pause=Pause(0.0005, 0.001),
                        batch_rows_max=ROWS_EACH,
                        connections=connections,
                        dead_letters_percent_max=100,
                    ),
                ):
                    rig.durable()
                    await rig.flushed(timeout_s=300 if attack.full else 40)
            await watch.look()
            assert watch.positions == sorted(watch.positions), "and it never goes back"
            rows = await connection.fetch(ALL + "ORDER BY 1")
            letters = await connection.fetchval("SELECT count(*) FROM certeus.dead_letters")
            assert letters == (rig.ticket // 2 if refused else 0)
            # A commit whose answer was cut off shows as progress that the connection never saw.
            assert sum(later > earlier for earlier, later in zip(
                watch.positions, watch.positions[1:], strict=False
            )) > 1  # fmt: skip
            assert sorted(proxy.struck) == sorted(cuts), "every cut was met"
            return proxy.struck, len(watch.positions), [
                (row["ticket"], row["data"].encode()) for row in rows
            ]  # fmt: skip

    struck, looks, rows = asyncio.run(run())
    assert looks >= len(struck)
    if not refused:
        assert all(data == data_of(ticket) for ticket, data in rows), "byte for byte"
    verdict = compare(list(range(1, rig.ticket + 1)), [ticket for ticket, _ in rows])
    attack.report(
        Outcome(
            attack=f"PostgreSQL: one of {connections} cut at a byte of BEGIN..COMMIT, rows {kind}",
            cases=len(set(struck)),
            acknowledged=rig.ticket,
            in_flight=ROWS_EACH,
            lost=verdict.lost,
            doubled=verdict.doubled,
            reordered=verdict.reordered,
        )
    )
