"""What came of `[memory]`: asked of a kernel, told in one line for each kind of memory.

Nothing here fails: what is refused is slower, never wrong.
"""

import errno
import os
import resource
from typing import Protocol, cast

import msgspec

from certeusd.config import MemorySection
from certeusd.logs import Logger

Outcome = tuple[str, str, int, int, int]
"""Kind of memory, key, bytes asked for, bytes that have it, errno of the difference (0: none)."""


class Kernel(Protocol):
    """`certeusd._native.Worker` or `LogWriter`."""

    def prepare(self, wishes: dict[str, bool], /) -> None:
        """Begin to prepare memory as `[memory]` says."""

    def prepared(self) -> list[Outcome]:
        """Return what has come of each wish since the last call."""
        ...


class Preparation:
    """Wishes of one process, and what it has told about them."""

    def __init__(self, kernel: Kernel, wishes: MemorySection, logger: Logger) -> None:
        self._kernel = kernel
        self._logger = logger
        asked = cast(dict[str, bool], msgspec.structs.asdict(wishes))
        self._wished = any(asked.values())
        self._told: set[tuple[object, ...]] = set()
        if self._wished:
            kernel.prepare(asked)

    def tell(self) -> None:
        """Say what has come of the wishes; for each kind of memory each result once."""
        if not self._wished:
            return
        by_kind: dict[str, list[Outcome]] = {}
        for outcome in self._kernel.prepared():
            by_kind.setdefault(outcome[0], []).append(outcome)
        for what, outcomes in by_kind.items():
            result = (what, *((key, not asked, refused) for _, key, asked, _, refused in outcomes))
            if result not in self._told:
                self._told.add(result)
                self._tell(what, outcomes)

    def _tell(self, what: str, outcomes: list[Outcome]) -> None:
        fields = {f"{key}_bytes": f"{got} of {asked}" for _, key, asked, got, _ in outcomes}
        why = [
            f"{key}: {reason(key, asked, refused)}"
            for _, key, asked, got, refused in outcomes
            if got < asked or not asked
        ]
        refusals = any(refused for *_, refused in outcomes)
        tell = self._logger.warning if refusals else self._logger.info
        tell("memory_prepared", what=what, **fields, why="; ".join(why))


def reason(key: str, asked_bytes: int, code: int) -> str:
    """Say why a wish was not fulfilled, and what would help."""
    if not asked_bytes:
        return "nothing there is as long as a huge page"
    if key == "lock" and code in (errno.ENOMEM, errno.EPERM, errno.EAGAIN):
        limit, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        return f"RLIMIT_MEMLOCK is {limit} bytes; set LimitMEMLOCK=infinity"
    known = {
        ("huge_pages", errno.EINVAL): "this kernel has none for shared memory; Linux 6.1 has",
        ("huge_pages", errno.ENOMEM): "no free huge page: the memory is in pieces",
        ("prefault", errno.EINVAL): "this kernel cannot; Linux 5.14 can",
    }
    return known.get((key, code), os.strerror(code))
