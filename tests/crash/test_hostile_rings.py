"""Thousands of rings that no library writes: each ends by its name, and harms nobody else.

Next to every hostile client a well-behaved producer of the same worker has its events acknowledged.
At the end the rows of both are compared: of a hostile ring exactly what a model of the ring says
was taken before the harm, and of the others everything, once.
"""

import asyncio
import random
import threading

import asyncpg
import pytest

import certeus
from support import processes
from support.attack import Attack, Outcome, Verdict, compare
from support.daemon import Daemon, running
from support.hostile import PAGE_BYTES, HostileClient
from support.ring_fuzz import RING_BYTES, Fuzzer, Model
from support.waiting import wait_until

pytestmark = [pytest.mark.crash, pytest.mark.integration]

CONFIG = "[worker]\ncount = 1\n"
REASONS = {"ring-position", "ring-length", "ring-kind", "ring-ticket"}
HONEST_EVENTS = 200
GROWTH_MAX = 48 << 20


class Honest:
    """The producer beside: its numbered events, and that it was not disturbed."""

    def __init__(self, daemon: Daemon) -> None:
        self.producer = certeus.connect(daemon.ingest, source="honest")
        self.last = 0
        self.in_flight = 1 << 30
        """The fewest that were in flight when a hostile ring was committed."""

    def append(self) -> None:
        """Append until some are in flight."""
        in_flight = 0
        while not in_flight:
            first = self.last + 1
            rows = [{"n": number} for number in range(first, first + HONEST_EVENTS)]
            self.last = self.producer.append_many("honest", rows)
            in_flight = self.last - self.producer.statistics().settled
        self.in_flight = min(self.in_flight, in_flight)

    def close(self) -> list[int]:
        """Settle everything; the numbers that were acknowledged."""
        self.producer.close(timeout=60.0)
        now = self.producer.statistics()
        assert (now.appended, now.settled, now.accepted) == (self.last, self.last, self.last)
        assert (now.reconnects, now.resent, now.duplicates, now.rejected) == (0, 0, 0, 0)
        return list(range(1, self.last + 1))


def one_ring(daemon: Daemon, rng: random.Random, honest: Honest) -> tuple[int, Model]:
    """A session that is written by a fuzzer, until it ends or has had some rounds."""
    fuzzer = Fuzzer(rng)
    with HostileClient(daemon.ingest, "fuzz", RING_BYTES) as client:
        for _ in range(rng.randrange(1, 6)):
            tail = fuzzer.round()
            client.memory[PAGE_BYTES : PAGE_BYTES + RING_BYTES] = bytes(fuzzer.data)
            honest.append()
            client.commit(tail)
            if fuzzer.model.ended is not None:
                ended = client.ended()
                assert ended == fuzzer.model.ended, f"ended as {ended}: {fuzzer.model}"
                break
            wait_until("verdicts", lambda: client.settled() == fuzzer.model.settled)
            assert client.word() is None, "a ring without fault was ended"
        if fuzzer.model.ended is None and rng.random() < 0.3:
            client.socket.send(b'{"goodbye":true}')
        return int(client.welcome["producer_no"]), fuzzer.model


def one_scribble(daemon: Daemon, rng: random.Random, honest: Honest) -> int:
    """A client that goes on changing the bytes while the daemon reads them."""
    fuzzer = Fuzzer(rng)
    with HostileClient(daemon.ingest, "scribble", RING_BYTES) as client:
        done = threading.Event()

        def scribble() -> None:
            mine = random.Random(rng.random())
            while not done.is_set():
                at = PAGE_BYTES + mine.randrange(RING_BYTES - 64)
                size = mine.randrange(1, 64)
                client.memory[at : at + size] = mine.randbytes(size)

        thread = threading.Thread(target=scribble)
        thread.start()
        try:
            for _ in range(8):
                tail = fuzzer.round()
                client.memory[PAGE_BYTES : PAGE_BYTES + RING_BYTES] = bytes(fuzzer.data)
                honest.append()
                client.commit(tail)
                word = client.word()
                if word is not None:
                    assert word.get("ended") in REASONS, word
                    break
        finally:
            done.set()
            thread.join()
        return int(client.welcome["producer_no"])


async def rows_of(dsn: str) -> dict[int, list[tuple[int, str]]]:
    """Ticket and data of all rows, by producer, in log order."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(
            "SELECT producer_no, ticket, data::text AS data FROM certeus.events"
            " ORDER BY log_id, seq"
        )
        assert await connection.fetchval("SELECT count(*) FROM certeus.dead_letters") == 0
    finally:
        await connection.close()
    found: dict[int, list[tuple[int, str]]] = {}
    for row in rows:
        found.setdefault(row["producer_no"], []).append((row["ticket"], row["data"]))
    return found


def judge(model: Model, rows: list[tuple[int, str]]) -> Verdict:
    """What the rows of one hostile producer say against its model."""
    found = [ticket for ticket, _ in rows]
    for ticket, data in rows:
        whole = model.whole.get(ticket)
        assert whole is None or whole.endswith(data.encode()), f"ticket {ticket} has other bytes"
    return compare(sorted(model.whole), found, also=model.changed)


def measured(daemon: Daemon) -> dict[str, tuple[int, int]]:
    """Resident bytes and descriptors of who serves the clients."""
    pids = {role: processes.find(daemon, role)[0] for role in ("worker", "log")}
    return {
        role: (processes.rss_bytes(pid), processes.descriptors(pid)) for role, pid in pids.items()
    }


@pytest.mark.timeout(900)
def test_rings_of_random_bytes_end_by_name_and_harm_nobody_else(attack: Attack) -> None:
    count = attack.cases(60, 6000)
    with running(CONFIG) as daemon:
        honest = Honest(daemon)
        workers = processes.find(daemon, "worker")
        models: dict[int, Model] = {}
        scribbled: set[int] = set()
        cases, before = 0, measured(daemon)
        for number in range(count):
            rng = random.Random(attack.rng.random())
            if number % 12 == 11:
                scribbled.add(one_scribble(daemon, rng, honest))
            else:
                producer_no, model = one_ring(daemon, rng, honest)
                models[producer_no] = model
            cases += 1
            if number == count // 10:
                before = measured(daemon)
        acknowledged = honest.close()
        assert processes.find(daemon, "worker") == workers, "a worker was replaced"
        after = measured(daemon)
        for role, (rss, descriptors) in after.items():
            assert rss - before[role][0] < GROWTH_MAX, f"{role} grew: {before} {after}"
            assert descriptors <= before[role][1] + 4, f"{role}: {before} {after}"
        daemon.certeus("wait", "--flushed", "--timeout", "120")
        found = asyncio.run(rows_of(daemon.dsn()))
        verdicts = [judge(model, found.pop(no, [])) for no, model in models.items()]
        for no in scribbled:
            found.pop(no, None)
        (rows,) = found.values()
        verdicts.append(compare(acknowledged, [ticket for ticket, _ in rows]))
        assert daemon.stop() == 0
    ended = {model.ended for model in models.values()} - {None}
    assert ended == REASONS or not attack.full, f"not every kind of harm was met: {ended}"
    attack.report(
        Outcome(
            "hostile producers: random ring bytes", cases, len(acknowledged), honest.in_flight,
            sum(one.lost for one in verdicts), sum(one.doubled for one in verdicts),
            sum(one.reordered for one in verdicts),
        )
    )  # fmt: skip
