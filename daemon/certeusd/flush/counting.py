"""What a committed batch adds to the flusher's page of the board: once a batch, never a row."""

import time

from certeusd.board import Board
from certeusd.log.reader import Batch


def count(board: Board, batch: Batch, refused: int, began_ns: int) -> None:
    """Count a batch as committed now: `refused` rows as dead letters; `began_ns` is monotonic."""
    now_ns = time.monotonic_ns()
    board.add("flush", "rows_total", batch.rows - refused)
    board.add("flush", "bytes_total", batch.bytes)
    board.add("flush", "batches_total", 1)
    board.add("flush", "dead_letters_total", refused)
    board.add("flush", "gaps_total", len(batch.gaps))
    board.add("flush", "commit_ns_sum", now_ns - began_ns)
    board.observe("flush", "batch_ns_buckets_64", now_ns - began_ns)
    board.observe("flush", "batch_rows_buckets_64", batch.rows - refused)
    if batch.rows:
        # By its earliest group: each row is at most so late. A clock may have been set back.
        late_ns = max(0, time.time_ns() - batch.recorded_at_ns)
        board.add("flush", "delivery_ms_sum", late_ns * batch.rows // 1_000_000)
        board.observe("flush", "delivery_ns_buckets_64", late_ns, batch.rows)
    board.set("flush", "heartbeat_ns", now_ns)
