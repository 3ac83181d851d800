"""Waiting on conditions: the only place of the tests where time passes."""

import select
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(what: str, condition: Callable[[], T], timeout: float = 30.0) -> T:
    """Call ``condition`` until it is true, and return what it gave.

    Raises:
        AssertionError: naming ``what``, after ``timeout`` seconds.
    """
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"no {what} within {timeout:g} s"
        select.select([], [], [], 0.005)
    return value


def until_each_has(counts: Callable[[], list[int]], more: int, timeout: float) -> None:
    """Wait until each count is so much higher than it is now."""
    before = counts()
    wait_until(
        f"{more} more of each",
        lambda: all(now >= then + more for now, then in zip(counts(), before, strict=True)),
        timeout,
    )
