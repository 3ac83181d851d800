"""Whole bodies into an encoder: long ones in a thread, so that others have their turn."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

THREAD_BYTES_MIN = 64 * 1024
"""From here on: a part of a body may take as long as all of it."""
_T = TypeVar("_T")


async def worked(body: bytes, work: Callable[[], _T]) -> _T:
    """Return what `work` makes of this body; it needs the GIL for a moment only."""
    if len(body) < THREAD_BYTES_MIN:
        return work()
    return await asyncio.to_thread(work)
