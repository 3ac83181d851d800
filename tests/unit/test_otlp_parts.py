"""The parts of a request to export logs: made where they hold nobody up."""

import asyncio
import math
import threading
import time
from typing import cast

import pytest

from certeusd._native import DoorEncoder, Encoded, OtlpLogs
from certeusd.api.long_work import THREAD_BYTES_MIN
from certeusd.api.otlp import parts
from certeusd.api.otlp_answers import PROTOBUF
from certeusd.door import LateError

COUNT = 3


class _Encoder:
    """Notes the thread of each step."""

    def __init__(self) -> None:
        self.threads = list[int]()

    def otlp_logs(self, _: bytes, __: bool) -> "_Encoder":
        self.threads.append(threading.get_ident())
        return self

    def __next__(self) -> Encoded:
        self.threads.append(threading.get_ident())
        if len(self.threads) > COUNT + 1:
            raise StopIteration
        return DoorEncoder(1, "door", []).cloudevents_lines(b"")


@pytest.mark.parametrize("aside", [False, True])
def test_each_part_of_a_large_body_is_made_in_another_thread(*, aside: bool) -> None:
    encoder, body = _Encoder(), bytes(THREAD_BYTES_MIN if aside else THREAD_BYTES_MIN - 1)

    async def count() -> int:
        made = parts(cast(DoorEncoder, encoder), body, PROTOBUF, math.inf)
        return len([part async for part in made])

    assert asyncio.run(count()) == COUNT
    assert len(encoder.threads) == COUNT + 2
    assert [thread != threading.get_ident() for thread in encoder.threads] == [aside] * (COUNT + 2)


def test_json_holds_where_its_brackets_end() -> None:
    body = b'{"resourceLogs": [{}, {}]}'
    assert OtlpLogs.held_bytes_max(body, json=True) == 4 * 8
    assert OtlpLogs.held_bytes_max(body, json=False) == 0


def test_no_more_is_read_than_there_is_time_for() -> None:
    encoder, read = _Encoder(), list[Encoded]()

    async def read_all() -> None:
        async for part in parts(cast(DoorEncoder, encoder), b"", PROTOBUF, time.monotonic()):
            read.append(part)

    with pytest.raises(LateError):
        asyncio.run(read_all())
    assert len(read) == 1
