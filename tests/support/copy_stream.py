"""Reads PostgreSQL's binary COPY format, as its documentation has it."""

import struct
from collections.abc import Iterable

SIGNATURE = b"PGCOPY\n\xff\r\n\0"


def rows_of(chunks: Iterable[bytes]) -> list[list[bytes | None]]:
    """The fields of every row of a complete stream; raises on anything that is not one."""
    stream = b"".join(chunks)
    assert stream.startswith(SIGNATURE + bytes(8))
    at = len(SIGNATURE) + 8
    rows: list[list[bytes | None]] = []
    while True:
        (count,) = struct.unpack_from(">h", stream, at)
        at += 2
        if count == -1:
            assert at == len(stream)
            return rows
        row: list[bytes | None] = []
        for _ in range(count):
            (length,) = struct.unpack_from(">i", stream, at)
            at += 4
            row.append(None if length == -1 else stream[at : at + length])
            at += max(length, 0)
        rows.append(row)
