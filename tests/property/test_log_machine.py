"""The log against a model: any order of appends, commits, deaths, damage, trims and resumes."""

import contextlib
import os
import random
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    get_state_machine_test,
    invariant,
    precondition,
    rule,
)

from certeusd._native import LogReader
from support.attack import Attack, Outcome
from support.log_machine import SEGMENT_BYTES, Client, Ledger, Offered

if TYPE_CHECKING:
    from certeusd._native import Event

CLIENTS_MAX = 4
ROWS_MAX, BATCH_BYTES_MAX = 10_000, 1 << 30
REJECTED = {"invalid-json", "id-conflict"}
STEPS = 50
BAD = b'{"never closed"'
FOLDER = "/dev/shm"
"""In memory: what a disk does to it is the business of others; here it is the order of steps."""
SIZES = (0, 40, 700, 3500)


Load = tuple[int, int, int, bool]
LOADS = st.tuples(st.integers(0, 99), st.integers(1, 9), st.integers(0, 12), st.booleans())
"""Whose events, how many, which of them is bad, and whether they are committed, but not told."""


class LogMachine(RuleBasedStateMachine):
    """`rows` is what a follower has read, as PostgreSQL would hold it."""

    examples = 0
    acknowledged = 0

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="certeus-machine-", dir=FOLDER))
        self.ledger = Ledger(self.folder)
        self.all: list[Client] = []
        self.rows: dict[int, tuple[int, int]] = {}
        """Client and ticket, by seq."""
        self.ids: dict[str, int] = {}
        self.greeted = True
        """Whether the worker's sessions know this log writer: then one step commits."""
        self.last_ticket: dict[int, int] = {}
        self.read_to: tuple[int, int, bytes, int] = (0, 0, bytes(32), 0)
        self._new_client()

    def _new_client(self) -> None:
        client = Client(len(self.all), os.urandom(16))
        self.all.append(client)
        self.ledger.connect(client)

    def _client(self, which: int) -> Client:
        clients = list(self.ledger.clients.values())
        return clients[which % len(clients)]

    # --- clients -----------------------------------------------------------------------------

    @precondition(lambda self: len(self.ledger.clients) < CLIENTS_MAX)
    @rule()
    def connect(self) -> None:
        self._new_client()

    @rule(which=st.integers(0, 99), size=st.sampled_from(SIZES), count=st.integers(1, 12),
          bad=st.integers(0, 12))  # fmt: skip
    def append_some(self, which: int, size: int, count: int, bad: int) -> None:
        self.append(which, size, count, bad)

    def append(self, which: int, size: int, count: int, bad: int) -> None:
        for number in range(count):
            self._append(which, size, None, data=BAD if number == bad else None)

    @rule(which=st.integers(0, 99))
    def fill_a_segment(self, which: int) -> None:
        """So that segments are sealed, and their sidecars are what a start reads."""
        for _ in range(3):
            for _ in range(16):
                self._append(which, SIZES[-1], None)
            self.ledger.settle()

    @rule(which=st.integers(0, 99), key=st.integers(0, 30), other=st.integers(0, 9))
    def append_with_id(self, which: int, key: int, other: int) -> None:
        """Often an id again: of this client mostly the same event, of another one a conflict."""
        data = b'{"c":%d,"id":%d,"v":%d}' % (self._client(which).number, key, other == 0)
        self._append(which, 0, f"id-{key}", data)

    def _append(self, which: int, size: int, key: str | None, data: bytes | None = None) -> None:
        client = self._client(which)
        assert client.ring is not None
        ticket = client.ring.last_ticket + 1
        bad = data is not None and key is None
        if data is None:
            data = b'{"c":%d,"t":%d,"pad":"%s"}' % (client.number, ticket, b"x" * size)
        if client.ring.append("t", data, False, key):
            client.offered[ticket] = Offered(data, key, bad)

    # --- steps of the daemon -----------------------------------------------------------------

    @rule()
    def forward(self) -> None:
        self.ledger.worker.run(0)

    @rule()
    def commit(self) -> None:
        """Commit what the rings hold, and tell nobody."""
        if not self.greeted:
            self.ledger.step()
            self.greeted = True
        self.ledger.worker.run(0)
        assert self.ledger.writer is not None
        self.ledger.writer.run(0)

    @rule()
    def settle(self) -> None:
        self.ledger.settle()

    # --- deaths ------------------------------------------------------------------------------

    @rule()
    def restart(self) -> None:
        self.ledger.stop_log()
        self._reopen()

    @rule(load=LOADS, noise=st.integers(0, 5000), seed=st.integers(0, 1 << 30))
    def kill_log(self, load: Load, noise: int, seed: int) -> None:
        """Perhaps with the beginnings of a group behind the last one."""
        self._under(load)
        self.ledger.kill_log()
        with contextlib.suppress(IndexError):
            path, end = self.ledger.newest_end()
            start = max(end, 4096) + 4096 * (seed % 4)
            if noise and start + noise <= path.stat().st_size:
                with path.open("r+b") as file:
                    file.seek(start)
                    file.write(random.Random(seed).randbytes(noise))
        self._reopen()

    @rule(load=LOADS)
    def kill_worker(self, load: Load) -> None:
        self._under(load)
        self.ledger.kill_worker()

    @rule(load=LOADS)
    def kill_both(self, load: Load) -> None:
        self._under(load)
        self.ledger.kill_log()
        self._reopen()
        self.ledger.kill_worker()

    def _under(self, load: Load) -> None:
        """Something is always under way when somebody dies."""
        which, count, bad, committed = load
        self.append(which, SIZES[1], count, bad)
        if committed:
            self.commit()

    def _reopen(self) -> None:
        self.ledger.open_log()
        self.greeted = False
        assert self.ledger.writer is not None
        found = self.ledger.writer.recovery()
        assert found["gaps"] == [], found
        told = [
            seq for client in self.all for verdict, seq, _ in client.told.values()
            if verdict == "accepted"
        ]  # fmt: skip
        assert found["next_seq"] > max(told, default=0), "what was told is gone"

    # --- the follower ------------------------------------------------------------------------

    @rule()
    def read(self) -> None:
        """A follower reads what is durable, and nothing that it read changes."""
        assert self.ledger.writer is not None
        reader = LogReader(self.ledger.log_dir)
        group, seq, root, _ = self.read_to
        if group:
            reader.seek(group, seq, root)
        durable = self.ledger.writer.durable_seq()
        while (batch := reader.next_batch(durable, ROWS_MAX, BATCH_BYTES_MAX)) is not None:
            assert batch.gaps == []
            for row in range(batch.rows):
                event = batch.event(row)
                self._take_row(event)
            self.read_to = (batch.group, batch.last_seq, batch.root, batch.segment_no)
        assert max(self.rows, default=0) == durable, "the reader does not get to the durable end"

    def _take_row(self, event: "Event") -> None:
        seq, ticket = event["seq"], event["ticket"]
        assert seq == len(self.rows) + 1, f"seq {seq} behind {len(self.rows)}"
        data, key = event["data"], event["id"]
        owners = [
            client.number for client in self.all
            if client.offered.get(ticket) == Offered(data, key, bad=False)
        ]  # fmt: skip
        assert len(owners) == 1, f"seq {seq}, ticket {ticket}: nobody appended {data!r}"
        (owner,) = owners
        assert ticket > self.last_ticket.get(owner, 0), f"ticket {ticket} twice, or out of order"
        self.last_ticket[owner] = ticket
        if key is not None:
            assert key not in self.ids, f"id {key} is there twice"
            self.ids[key] = seq
        self.rows[seq] = (owner, ticket)

    @rule()
    def trim(self) -> None:
        """The follower's position is durable: segments below it may go."""
        self.read()
        self.ledger.follower = self.read_to
        self.ledger.board.set("follower", "trim_segment", self.read_to[3])

    # --- what must hold ----------------------------------------------------------------------

    @invariant()
    def verdicts_are_true(self) -> None:
        """Everything that a client was told and the follower has read agrees."""
        for client in self.ledger.clients.values():
            client.drain()
        for client in self.all:
            for ticket, (verdict, seq, reason) in client.told.items():
                offered = client.offered[ticket]
                if verdict == "accepted" and seq in self.rows:
                    assert not offered.bad
                    assert self.rows[seq] == (client.number, ticket)
                elif verdict == "duplicate":
                    assert self._content(seq) in (None, offered.data)
                elif verdict == "rejected":
                    assert reason in REJECTED
                    assert offered.bad == (reason == "invalid-json")
                    assert seq == 0 or self._content(seq) != offered.data

    def _content(self, seq: int) -> bytes | None:
        if seq not in self.rows:
            return None
        owner, ticket = self.rows[seq]
        return self.all[owner].offered[ticket].data

    def teardown(self) -> None:
        try:
            self.ledger.settle()
            self.read()
            self.verdicts_are_true()
            LogMachine.examples += 1
            LogMachine.acknowledged += sum(len(client.told) for client in self.all)
            report = LogReader(self.ledger.log_dir).check()
            assert report["ok"], report["findings"]
        finally:
            self.ledger.close()
            shutil.rmtree(self.folder)


@pytest.mark.crash
@pytest.mark.timeout(900)
def test_log_agrees_with_its_model_in_any_order_of_steps(attack: Attack) -> None:
    LogMachine.examples = LogMachine.acknowledged = 0
    assert SEGMENT_BYTES < 1 << 20, "small segments, so that they are sealed and trimmed often"
    chosen = settings(
        max_examples=attack.cases(60, 2000), stateful_step_count=STEPS, deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        database=None, print_blob=False,
    )  # fmt: skip
    hypothesis.seed(attack.seed)(get_state_machine_test(LogMachine, settings=chosen))()
    attack.report(
        Outcome(
            f"log against its model, {STEPS} steps", LogMachine.examples, LogMachine.acknowledged
        )
    )
