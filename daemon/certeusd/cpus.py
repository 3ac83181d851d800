"""Sets of CPUs as the kernel and the configuration write them: ``0-3,8``."""

import re
from collections.abc import Iterable

_RANGE = re.compile(r"([0-9]{1,7})(?:-([0-9]{1,7}))?")
_COUNT_MAX = 8192
"""More than the kernel can be built for: a slip of the pen must not fill memory."""


def parse(text: str) -> frozenset[int]:
    """Read a list such as ``0-3,8``; an empty one has no CPU.

    Raises:
        ValueError: this is no such list.
    """
    found: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            raise ValueError(f'"{part.strip()}" is no CPU and no range of CPUs')
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or last >= _COUNT_MAX:
            raise ValueError(f'"{part.strip()}" is no range below {_COUNT_MAX}')
        found.update(range(first, last + 1))
    return frozenset(found)


def shown(cpus: Iterable[int]) -> str:
    """Write a set of CPUs, as short as it goes."""
    parts: list[str] = []
    first = last = -2
    for cpu in [*sorted(set(cpus)), -1]:
        if cpu == last + 1 and cpu >= 0:
            last = cpu
            continue
        if first >= 0:
            parts.append(str(first) if first == last else f"{first}-{last}")
        first = last = cpu
    return ",".join(parts)
