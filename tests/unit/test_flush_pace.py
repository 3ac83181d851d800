"""How large the next batch may be, after what the one before came to."""

from pathlib import Path

import asyncpg
import pytest

from certeusd.config import PostgresSection
from certeusd.flush.errors import PositionLostError, StalledError
from certeusd.flush.pace import Pace
from certeusd.flush.settings import PROBE_BYTES_MAX, PROBE_ROWS_MAX, Settings


def pace(rows: int = 8000) -> Pace:
    postgres = PostgresSection(batch_rows_max=rows, batch_bytes_max=1 << 20)
    return Pace(Settings("", postgres, Path(), Path()))


TOO_SLOW = (StalledError("", ""), asyncpg.QueryCanceledError("57014"))


@pytest.mark.parametrize("error", TOO_SLOW, ids=("stalled", "timed out"))
def test_a_batch_that_takes_too_long_comes_again_by_half(error: Exception) -> None:
    made = pace()
    made.failed(error)
    assert made.limits(probing=False) == (4000, 1 << 20)
    for _ in range(10):
        made.failed(error)
    assert made.limits(probing=False)[0] == PROBE_ROWS_MAX
    assert made.limits(probing=True) == (PROBE_ROWS_MAX, PROBE_BYTES_MAX)


def test_batches_grow_again_to_what_is_configured_and_no_further() -> None:
    made = pace()
    made.failed(TOO_SLOW[0])
    made.done()
    assert made.limits(probing=False)[0] == 4501
    for _ in range(20):
        made.done()
    assert made.limits(probing=False)[0] == 8000


def test_other_errors_and_small_batches_change_nothing() -> None:
    made = pace(100)
    for error in (ConnectionResetError(), PositionLostError(), *TOO_SLOW):
        made.failed(error)
        assert made.limits(probing=False)[0] == 100


def test_batches_are_small_while_memory_is_short_and_never_larger_for_it() -> None:
    made = pace()
    made.squeezed = True
    assert made.limits(probing=False) == (8000, (1 << 20) // 8)
    assert made.limits(probing=True)[1] <= PROBE_BYTES_MAX
    made.squeezed = False
    assert made.limits(probing=False) == (8000, 1 << 20)
    small = Pace(Settings("", PostgresSection(batch_bytes_max=64 << 10), Path(), Path()))
    small.squeezed = True
    assert small.limits(probing=False)[1] == 64 << 10
