"""What a histogram of powers of two says: bucket `b` holds values below `2^b`, and not below half.

Counts only grow, so those of an interval are a difference. Within a bucket values are taken to lie
evenly: a quantile is true to the bucket, that is, to a factor of two.
"""

from collections.abc import Sequence
from itertools import zip_longest


def grown(before: Sequence[int], after: Sequence[int]) -> list[int]:
    """Counts of the interval; all of `after` where they went back, since another one counts now."""
    difference = [new - old for old, new in zip_longest(before, after, fillvalue=0)]
    return list(after) if any(count < 0 for count in difference) else difference


def merged(histograms: Sequence[Sequence[int]]) -> list[int]:
    """Counts of several together."""
    return [sum(counts) for counts in zip_longest(*histograms, fillvalue=0)]


def quantile(counts: Sequence[int], share: float) -> float | None:
    """The value that `share` (0..1) of the counted ones do not exceed; none: nothing was counted.

    Source: linear interpolation within a bucket, as Prometheus' `histogram_quantile` does it.
    """
    total = sum(counts)
    if total == 0:
        return None
    wanted, below = share * total, 0
    last = max(at for at, count in enumerate(counts) if count)
    for at, count in enumerate(counts):
        if count and (below + count >= wanted or at == last):
            low, high = (2.0 ** (at - 1) if at else 0.0), (2.0**at if at else 0.0)
            return low + (high - low) * min(1.0, max(0.0, (wanted - below) / count))
        below += count
    raise AssertionError("a bucket that is not empty ends the search")


def trimmed(counts: Sequence[int]) -> list[int]:
    """Leave out the empty buckets at the end."""
    last = max((at for at, count in enumerate(counts) if count), default=-1)
    return list(counts[: last + 1])
