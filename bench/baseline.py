"""What the same machine does without certeus: the denominators of every ratio.

Bare sync: 4 KiB written and ``fdatasync``ed into a file that was filled with zeros before, on the
file system of the log. Bare COPY: the rows that arrived, encoded beforehand by ``COPY ... TO``, one
connection, into an empty table with the same columns, indexes and defaults, nothing else running.
"""

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import asyncpg

SYNC_BYTES = 4096
CHUNK_BYTES = 512 * 1024
TWIN = "certeus.twin"


def bare_sync_ns(directory: Path, count: int) -> list[int]:
    """Nanoseconds of ``count`` writes of 4 KiB, each made durable, at growing offsets."""
    path = directory / "bare-sync"
    block = os.urandom(SYNC_BYTES)
    latencies: list[int] = []
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        for _ in range(count + count // 10):
            os.write(descriptor, bytes(SYNC_BYTES))
        os.fsync(descriptor)
        for index in range(count + count // 10):
            begin = time.perf_counter_ns()
            os.pwrite(descriptor, block, index * SYNC_BYTES)
            os.fdatasync(descriptor)
            latencies.append(time.perf_counter_ns() - begin)
    finally:
        os.close(descriptor)
        path.unlink()
    return latencies[count // 10 :]


class BareCopy(NamedTuple):
    """One bare COPY: rows, bytes of the stream, seconds with COMMIT."""

    rows: int
    stream_bytes: int
    seconds: float


async def bare_copy(dsn: str, rows_max: int, repeats: int = 3) -> BareCopy:
    """The best of ``repeats`` COPYs of the newest rows of ``certeus.events`` into an empty twin."""
    connection = await asyncpg.connect(dsn)
    try:
        chunks: list[bytes] = []

        async def keep(data: bytes) -> None:
            chunks.append(bytes(data))

        query = f"SELECT * FROM certeus.events ORDER BY seq DESC LIMIT {rows_max:d}"
        await connection.copy_from_query(query, output=keep, format="binary")
        stream = b"".join(chunks)
        chunks.clear()

        async def pieces() -> AsyncIterator[bytes]:
            for start in range(0, len(stream), CHUNK_BYTES):
                yield stream[start : start + CHUNK_BYTES]

        best: BareCopy | None = None
        for _ in range(repeats):
            await connection.execute(f"DROP TABLE IF EXISTS {TWIN}")
            await connection.execute(f"CREATE TABLE {TWIN} (LIKE certeus.events INCLUDING ALL)")
            begin = time.perf_counter()
            tag = await connection.copy_to_table(
                "twin", schema_name="certeus", source=pieces(), format="binary"
            )
            done = BareCopy(int(tag.split()[1]), len(stream), time.perf_counter() - begin)
            if best is None or done.seconds < best.seconds:
                best = done
        assert best is not None
        return best
    finally:
        await connection.execute(f"DROP TABLE IF EXISTS {TWIN}")
        await connection.close()
