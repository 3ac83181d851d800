"""`python -m certeusd.worker --channel FD`: one worker, started by the supervisor only."""

import argparse
import os
import socket
import sys
import time
from pathlib import Path

from certeusd import _native, doors, logs, timeslice
from certeusd.board import Board
from certeusd.channel import Start, adopt
from certeusd.preparation import Preparation
from certeusd.rule import Rule
from certeusd.uncaught import log_uncaught
from certeusd.worker.audit import Audit
from certeusd.worker.clients import Clients
from certeusd.worker.ledger import Caps, Ledger
from certeusd.worker.service import Service

LOG_KEY_BYTES = 32


class BoardView:
    """What this worker counts in Python, and what the other workers hold."""

    def __init__(self, board: Board, index: int, workers: int) -> None:
        self._board = board
        self._index = index
        self.share(workers)

    def share(self, workers: int) -> None:
        """Look at so many workers from now on."""
        self._others = [at for at in range(workers) if at != self._index]

    def refused(self) -> None:
        """Count a hello that got no session."""
        self._board.add("worker", "refused_total", 1, self._index)

    def sessions(self) -> list[tuple[int, float]]:
        """Sessions, and seconds since the last sign of life, of each other worker."""
        now_ns = time.monotonic_ns()
        return [
            (
                self._board.get("worker", "sessions", at),
                (now_ns - self._board.get("worker", "heartbeat_ns", at)) / 1e9,
            )
            for at in self._others
        ]


def main() -> int:
    """Take the channel, make kernel and clients, serve. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="certeusd.worker")
    parser.add_argument("--channel", type=int, required=True)
    channel = adopt(parser.parse_args().channel)
    received = channel.receive()
    if received is None:
        return 0
    start, (board_fd, *listener_fds) = received
    assert isinstance(start, Start), "the first message is Start"
    config, index = start.config, start.index
    board = Board(board_fd)
    logger = logs.configure(
        "worker", index, start.log_level, lambda: board.count_dropped_line("worker", index)
    )
    log_uncaught(logger)
    timeslice.shorten(logger)
    listeners = [socket.socket(fileno=fd) for fd in listener_fds]
    sections = [*config.ingest, *doors.private_listeners(config, os.geteuid())]
    assert len(listeners) == len(sections), "one listener for each [[ingest]] and each door"
    for listener in listeners:
        listener.setblocking(False)
    key = (Path(start.state_dir) / "keys" / "log.key").read_bytes()
    assert len(key) == LOG_KEY_BYTES, f"a log key of {len(key)} bytes"
    limits = config.limits
    kernel = _native.Worker(board_fd, index, key, limits.event_bytes_max, limits.depth_max)
    view = BoardView(board, index, config.worker.count)
    os.close(board_fd)
    clients = Clients(
        kernel,
        [(end, Rule.of(section)) for end, section in zip(listeners, sections, strict=True)],
        limits=limits,
        ledger=Ledger(Caps.of(limits, max(1, config.worker.count), index)),
        audit=Audit(logger),
        counters=view,
        clock=time.monotonic,
    )
    service = Service(
        kernel,
        clients,
        channel,
        view,
        index=index,
        drain_timeout_ms=config.supervisor.drain_timeout_ms,
        logger=logger,
        preparation=Preparation(kernel, config.memory, logger),
    )
    return service.run()


if __name__ == "__main__":
    sys.exit(main())
