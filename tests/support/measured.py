"""A board on which everything is counted, and what the collector reads besides."""

import os

from certeusd import _native
from certeusd.board import BOARD_BYTES, Board
from certeusd.config import ThresholdsSection
from certeusd.control.measures import Measures, MemoryMeasure, ProcessMeasure, ReloadMeasure
from certeusd.control.sla import Objective, Sla
from certeusd.control.types import (
    Bottleneck,
    Dedup,
    Log,
    Postgres,
    Process,
    Reason,
    Scaling,
    Status,
)

WORKERS = 2


def empty_board() -> Board:
    """Make a board of zeros."""
    descriptor = os.memfd_create("board")
    os.ftruncate(descriptor, BOARD_BYTES)
    made = Board(descriptor)
    os.close(descriptor)
    return made


def full_board() -> Board:
    """Make a board on which each word is something, and each bucket."""
    board = empty_board()
    for table, (_, fields) in _native.BOARD.items():
        for slot in range(WORKERS if table == "worker" else 1):
            for number, field in enumerate(fields, start=1):
                if field.endswith("_buckets_64"):
                    for bit in range(64):
                        board.observe(table, field, 1 << bit, index=slot)
                else:
                    board.set(table, field, number, slot)
    return board


class Measured:
    """What the collector asks: a service in which everything is to be seen."""

    def __init__(self, board: Board, thresholds: ThresholdsSection | None = None) -> None:
        self.board = board
        self.takes_events = True
        self.thresholds = thresholds or ThresholdsSection()

    def status(self) -> Status:
        workers = [_process("worker", slot) for slot in range(WORKERS)]
        return Status(
            version="1", pid=1, state="degraded", since="", uptime_seconds=1.0,
            reasons=[Reason("postgres-away", "", "what", "next")],
            log_id=None, durable_seq=5, accepted_seq=5, flushed_seq=3, lag_events=2,
            lag_seconds=0.5, sessions=0, producers=0, dedup=Dedup(0, None, 0),
            log=Log(0, 0, 0, 0, False), postgres=Postgres("external", "away", "", None, False),
            workers=workers, processes=[_process("log", 0), _process("flush", 0)], reports={},
            state_dir="/s", runtime_dir="/r", warnings=[], pending=["cpu.pin"],
            bottleneck=Bottleneck("deliver", "what"),
            scaling=Scaling(min=1, max=4, current=WORKERS, why="", since="", ups_total=1),
        )  # fmt: skip

    def measures(self) -> Measures:
        places = [("supervisor", 0), ("log", 0), ("worker", 0), ("worker", 1), ("flush", 0)]
        processes = tuple(
            ProcessMeasure(role, slot, True, 2, 1.5, 4096, 1e9, 3) for role, slot in places
        )
        memory = MemoryMeasure("cgroup", 50, 100)
        reload = ReloadMeasure(True, 1e9)
        return Measures(1e9, 1e9, WORKERS, processes, 2, memory, reload, self.thresholds, sla())


def sla() -> Sla:
    """Make an answer of every objective; one is missed."""
    objectives = [
        Objective(name=name, objective=100.0, measured=value, upper_bound=None, unit=unit,
                  met=value < 100, samples=5, since="")
        for name, value, unit in (("ack_p99", 1.5, "milliseconds"),
                                  ("row_p99", 150.0, "milliseconds"),
                                  ("availability", 0.5, "ratio"))
    ]  # fmt: skip
    return Sla(window_seconds=3600, objectives=objectives, met=False)


def _process(role: str, slot: int) -> Process:
    return Process(f"{role}-{slot}", role, slot, 1, True, None, 2, False, 3, 0.0, 4096, {})
