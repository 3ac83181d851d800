"""The flusher's process: `python -m certeusd.flush --channel FD`, started by the supervisor."""

import argparse
import asyncio
import contextlib
import os
import random
import time
from pathlib import Path

import uvloop

from certeusd import logs
from certeusd.board import Board
from certeusd.channel import (
    AcceptDeadLetters,
    AcceptGap,
    AskLetters,
    Channel,
    Drain,
    Level,
    Retry,
    Squeeze,
    Start,
    adopt,
)
from certeusd.flush.flusher import Flusher
from certeusd.flush.letter_orders import LetterOrders
from certeusd.flush.room import shared_reserve_bytes
from certeusd.flush.settings import Settings
from certeusd.uncaught import log_uncaught

BEAT_S = 1.0
DRAIN_TIMEOUT_S = 2.0
"""So long a batch under way may still take; then it is rolled back."""


async def beat(board: Board) -> None:
    """Show that this loop turns, however long PostgreSQL takes."""
    while True:
        board.set("flush", "heartbeat_ns", time.monotonic_ns())
        await asyncio.sleep(BEAT_S)


async def serve(channel: Channel, start: Start, board: int, bell: int, log: logs.Logger) -> None:
    """Run the flusher until the supervisor says `Drain`, or is gone."""
    state_dir = Path(start.state_dir)
    settings = Settings(
        dsn=start.postgres_dsn or start.config.postgres.dsn,
        postgres=start.config.postgres,
        log_dir=state_dir / "log",
        followers_dir=state_dir / "followers",
        shared_reserve_bytes=shared_reserve_bytes(
            state_dir, start.config.log.disk_reserve_bytes, start.config.postgres.dsn
        ),
        stall_timeout_s=start.config.postgres.stall_timeout_ms / 1000,
        lock_timeout_s=start.config.postgres.lock_timeout_ms / 1000,
    )
    channel.setblocking(False)
    flusher = Flusher(settings, board, bell, channel.send, log, random.random)
    shown = flusher.show_dead_letters
    letter_orders = LetterOrders(settings, Board(board), channel.send, shown, log)
    drained = asyncio.Event()

    def on_message() -> None:
        with contextlib.suppress(BlockingIOError):
            received = channel.receive()
            match None if received is None else received[0]:
                case None:
                    # The supervisor is gone; whatever is under way, PostgreSQL rolls back.
                    os._exit(0)
                case Drain():
                    flusher.drain()
                    drained.set()
                case AcceptGap() as gap:
                    flusher.accept_gap(gap.first_seq, gap.last_seq)
                case AcceptDeadLetters() as letters:
                    flusher.accept_dead_letters(letters.until_seq)
                case AskLetters() as ask:
                    letter_orders.take(ask)
                case Retry():
                    flusher.retry()
                case Level() as level:
                    logs.set_level(level.level)
                case Squeeze() as squeeze:
                    flusher.pace.squeezed = squeeze.active
                case other:
                    log.warning("message_ignored", message=type(other).__name__)

    asyncio.get_running_loop().add_reader(channel.fileno(), on_message)
    beating = asyncio.ensure_future(beat(Board(board)))
    running = asyncio.ensure_future(flusher.run())
    waiting = asyncio.ensure_future(drained.wait())
    await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if not running.done():
        await asyncio.wait({running}, timeout=DRAIN_TIMEOUT_S)
    waiting.cancel()
    beating.cancel()
    if not running.done():
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        return
    await running


def main() -> int:
    """Take the channel, learn what to do, and do it."""
    parser = argparse.ArgumentParser(prog="certeusd.flush", description=__doc__)
    parser.add_argument("--channel", type=int, required=True, metavar="FD")
    channel = adopt(parser.parse_args().channel)
    received = channel.receive()
    if received is None:
        return 0
    start, descriptors = received
    assert isinstance(start, Start), f"first came {type(start).__name__}, not Start"
    board, bell = descriptors
    os.set_blocking(bell, False)
    counts = Board(board)
    log = logs.configure(
        "flush", level=start.log_level, on_dropped=lambda: counts.count_dropped_line("flush")
    )
    log_uncaught(log)
    uvloop.run(serve(channel, start, board, bell, log))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
