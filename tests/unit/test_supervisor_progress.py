"""Who stands still is told by name; who has nothing to do, or says itself what it lacks, is not."""

import os
from collections.abc import Iterator, Sequence

import pytest

from certeusd.board import BOARD_BYTES, Board
from certeusd.channel import Role
from certeusd.supervisor.progress import (
    FLUSH_STALLED_TICKS,
    HUNG_TICKS,
    LAGGING_TICKS,
    STALLED_TICKS,
    Progress,
)
from certeusd.supervisor.state import Reasons

ALL: Sequence[tuple[Role, int]] = [("log", 0), ("worker", 0), ("worker", 1), ("flush", 0)]


class Rig:
    def __init__(self, board: Board) -> None:
        self.board = board
        self.reasons = Reasons()
        self.progress = Progress(board, self.reasons)
        self.beats = 0

    def tick(self, count: int, *, but: str = "", ready: Sequence[tuple[Role, int]] = ALL) -> None:
        """So many ticks, in which everybody gives a sign of life but one."""
        for _ in range(count):
            self.beats += 1
            for role, index in ready:
                if role != "flush" and f"{role}{index}" != but:
                    self.board.set(role, "heartbeat_ns", self.beats, index)
            self.progress.sample(ready, 0.0)

    @property
    def codes(self) -> list[str]:
        return [reason.code for reason in self.reasons.listed()]


@pytest.fixture
def rig() -> Iterator[Rig]:
    fd = os.memfd_create("board")
    os.ftruncate(fd, BOARD_BYTES)
    yield Rig(Board(fd))
    os.close(fd)


def test_idle_service_gives_no_reason(rig: Rig) -> None:
    rig.tick(30)
    assert rig.codes == []


@pytest.mark.parametrize(("who", "code"), [("log0", "log-stalled"), ("worker1", "worker-stalled")])
def test_process_without_a_sign_of_life_is_told_until_it_gives_one(
    rig: Rig, who: str, code: str
) -> None:
    rig.tick(2)
    rig.tick(STALLED_TICKS - 1, but=who)
    assert rig.codes == []
    rig.tick(1, but=who)
    assert rig.codes == [code]
    rig.tick(1)
    assert rig.codes == []


def test_child_is_hung_after_long_silence_and_no_longer_at_its_first_sign(rig: Rig) -> None:
    def hung_after(ticks: int, **silent: int) -> list[str]:
        found = list[str]()
        for _ in range(ticks):
            rig.beats += 1
            for role, index in ALL:
                if silent.get(role) != index:
                    rig.board.set(role, "heartbeat_ns", rig.beats, index)
            found = rig.progress.hung(ALL)
        return found

    assert hung_after(2 * HUNG_TICKS) == []
    assert hung_after(HUNG_TICKS - 1, worker=1) == []
    assert hung_after(1, worker=1) == ["worker-1"]
    assert hung_after(1) == []
    assert hung_after(HUNG_TICKS, log=0) == ["log"]
    assert hung_after(HUNG_TICKS, flush=0) == ["flush"]
    # Who is not ready has nothing to show.
    assert [rig.progress.hung([]) for _ in range(2 * HUNG_TICKS)] == [[]] * (2 * HUNG_TICKS)


def test_process_that_is_not_ready_is_not_called_stalled(rig: Rig) -> None:
    rig.tick(2)
    rig.tick(30, ready=[("worker", 0)])
    rig.tick(STALLED_TICKS - 1, but="worker1")
    assert rig.codes == []


def test_sync_that_does_not_return_is_told(rig: Rig) -> None:
    rig.board.set("durability", "accepted_seq", 9)
    rig.tick(STALLED_TICKS + 1)
    (reason,) = rig.reasons.listed()
    assert (reason.code, reason.what) == ("log-stalled", "no sync has returned, durable seq 0")
    rig.board.set("durability", "durable_seq", 9)
    rig.board.set("follower", "position_seq", 9)
    rig.tick(1)
    assert rig.codes == []


def test_flusher_that_stands_still_is_told_unless_it_says_why(rig: Rig) -> None:
    rig.board.set("durability", "durable_seq", 9)
    rig.tick(FLUSH_STALLED_TICKS + 1)
    assert rig.codes == ["flush-stalled"]
    rig.reasons.add("flush", "postgres-away", "it is away", "", 0.0)
    rig.tick(1)
    assert rig.codes == ["postgres-away"]
    rig.reasons.forget("flush")
    rig.board.set("follower", "position_seq", 5)
    rig.tick(FLUSH_STALLED_TICKS)
    assert rig.codes == []


def test_follower_that_holds_the_log_for_long_is_told_with_what_it_costs(rig: Rig) -> None:
    rig.board.set("durability", "durable_seq", 9)
    rig.board.set("follower", "position_seq", 5)
    rig.board.set("log", "segments", 3)
    rig.board.set("log", "log_bytes", 192 << 20)
    rig.board.set("log", "log_bytes_max", 1 << 30)
    rig.reasons.add("flush", "postgres-away", "it is away", "", 0.0)
    rig.tick(LAGGING_TICKS)
    assert rig.codes == ["postgres-away"]
    rig.tick(1)
    assert rig.codes == ["follower-lagging", "postgres-away"]
    assert rig.reasons.listed()[0].what == (
        "postgres has not moved from seq 5 for 15 minutes: 4 events wait, and the log that is kept"
        " for it has 192 of 1024 MiB"
    )
    rig.board.set("follower", "position_seq", 6)
    rig.tick(1)
    assert rig.codes == ["postgres-away"]
    rig.board.set("log", "segments", 1)
    rig.tick(LAGGING_TICKS + 1)
    assert rig.codes == ["postgres-away"], "one segment is there in any case"
