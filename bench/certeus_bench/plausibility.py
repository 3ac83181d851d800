"""Whether a measurement may be believed, decided by its own numbers and nothing else.

A benchmark lies most easily by accident: the loop was optimised away, the clock was too coarse, the
work had not begun or was not finished when the clock was read. Each rule below names one such
accident, looks at one `Measurement`, and returns a sentence where it happened. A measurement with a
sentence is an artifact: it is shown with its reasons and counts nowhere.

What rests on what:

- *Little's law*: the mean number of operations under way is their rate times their mean time. In a
  closed loop that number is bounded from above by the concurrency, since each operation waits for
  an answer, and from below because the loop does little else; a product outside says that rate and
  times were not taken from the same work. In an open loop neither bound holds: operations are due
  by the clock, wait in line as long as they must, and in a quiet system the line is empty nearly
  always. There, only an operation that was due before the program began is impossible.
- *Sums*: where nothing but memory lies between writer and reader (scope ``ring``), a compiler or a
  consumer that only moves positions can leave the payload unread, so payload without both sums is
  an artifact. Past a system call nothing can be optimised away, and a group that was durable or a
  row that was committed is counted by whoever did it: there sums are compared where they are given.
- *Standing still*: a disk that hangs for some 100 ms is a latency, and stands in the histogram;
  intervals without any operation for longer than that mean that what was measured had stopped.
- *Costs* (scope ``inproc``) are read from facts, and may well need no operation at all: an idle
  system does nothing.
"""

from collections.abc import Callable
from itertools import groupby, pairwise

import msgspec

from certeus_bench import histogram
from certeus_bench.histogram import HistogramError
from certeus_bench.results import Label, Latency, Loop, Measurement, Scope

SECONDS_MIN = 1.0
OPERATIONS_MIN = 1000
"""Below it, fewer than ten operations lie above p99."""
LITTLE_SLACK = 0.10
LITTLE_MIN = 0.1
STANDSTILL_SECONDS_MAX = 0.5
STANDSTILL_EXPECTED_MIN = 10.0
"""Fewer than that are expected in the time: then it may be empty by chance."""
DRIFT_MAX = 2.0
"""One half of the time may be so many times as fast as the other."""

Rule = Callable[[Measurement, Latency | None], str | None]


def judge(measurement: Measurement, scope: Scope) -> tuple[Label, list[str]]:
    """Sound, or an artifact with every reason."""
    latency, broken = latency_of(measurement)
    if broken:
        measurement = msgspec.structs.replace(measurement, histogram=None)
    found = [rule(measurement, latency) for rule in RULES]
    if scope is not Scope.INPROC:
        found.append(enough_operations(measurement))
    if scope is Scope.RING:
        found.append(payload_was_read(measurement))
    reasons = [reason for reason in [broken, *found] if reason]
    return (Label.ARTIFACT if reasons else Label.SOUND), reasons


def latency_of(measurement: Measurement) -> tuple[Latency | None, str | None]:
    """Percentiles of the measurement's histogram, or why there are none though it has one."""
    if measurement.histogram is None:
        return None, None
    try:
        return histogram.latency(histogram.decode(measurement.histogram)), None
    except HistogramError as error:
        return None, str(error)


def long_enough(measurement: Measurement, _: Latency | None) -> str | None:
    """The time that was measured."""
    if measurement.seconds >= SECONDS_MIN:
        return None
    return f"measured for {measurement.seconds:.3g} s; at least {SECONDS_MIN:g} s are needed"


def enough_operations(measurement: Measurement) -> str | None:
    """How many operations stand behind the figure."""
    if measurement.operations >= OPERATIONS_MIN:
        return None
    return f"only {measurement.operations:,} operations; at least {OPERATIONS_MIN:,} are needed"


def times_are_all_there(measurement: Measurement, latency: Latency | None) -> str | None:
    """One time for each operation."""
    if measurement.histogram is None:
        return None
    count = latency.count if latency else 0
    if count == measurement.operations:
        return None
    return f"the histogram holds {count:,} times of {measurement.operations:,} operations"


def percentiles_rise(_: Measurement, latency: Latency | None) -> str | None:
    """No percentile may be below a lower one."""
    if latency is None:
        return None
    told = {
        "min": latency.min_ns, "p50": latency.p50_ns, "p90": latency.p90_ns,
        "p99": latency.p99_ns, "p99.9": latency.p999_ns, "max": latency.max_ns,
    }  # fmt: skip
    names = list(told)
    for lower, higher in pairwise(names):
        if told[lower] > told[higher]:
            return f"{lower} ({told[lower]:,} ns) is above {higher} ({told[higher]:,} ns)"
    return None


def clock_is_fine_enough(measurement: Measurement, latency: Latency | None) -> str | None:
    """Half of all times must be longer than what the clock can tell apart."""
    if latency is None:
        return None
    if measurement.timer_ns <= 0:
        return "the timer's resolution was not measured"
    if latency.p50_ns > measurement.timer_ns:
        return None
    timer = f"the timer's resolution, {measurement.timer_ns:,} ns"
    return f"p50 ({latency.p50_ns:,} ns) is not above {timer}"


def little_holds(measurement: Measurement, latency: Latency | None) -> str | None:
    """Rate times mean time, against what could be under way; see above for open loops."""
    if latency is None or measurement.seconds <= 0:
        return None
    if measurement.loop is Loop.OPEN:
        lasted = measurement.warmup_seconds + measurement.seconds
        longest = latency.max_ns / 1e9
        if longest <= lasted * (1 + LITTLE_SLACK):
            return None
        return f"an operation took {longest:.3g} s, but warm-up and measuring {lasted:.3g} s"
    if not measurement.concurrency:
        return None
    under_way = measurement.operations / measurement.seconds * latency.mean_ns / 1e9
    if LITTLE_MIN <= under_way <= measurement.concurrency * (1 + LITTLE_SLACK):
        return None
    bounds = f"not within {LITTLE_MIN:g} and {measurement.concurrency:,}"
    return f"Little's law: rate times mean time is {under_way:.3g} under way, {bounds}"


def sums_agree(measurement: Measurement, _: Latency | None) -> str | None:
    """What was read is what was written, wherever either side told."""
    written, read = measurement.written_sum, measurement.read_sum
    if written == read:
        return None
    if written is None or read is None:
        return f"only the {'reading' if written is None else 'writing'} side told its sum"
    return f"payloads were lost or not read: sum written {written}, sum read {read}"


def payload_was_read(measurement: Measurement) -> str | None:
    """Through memory, payload counts only if both sides prove that they touched it."""
    if not measurement.bytes_each or measurement.written_sum is not None:
        return None
    if measurement.read_sum is not None:
        return None  # told already: one side only
    return "neither side summed the payload: reading it may have been optimised away"


def intervals_add_up(measurement: Measurement, _: Latency | None) -> str | None:
    """The series and the total are the same work; the last interval may be cut."""
    if not measurement.intervals:
        return None
    if measurement.interval_seconds <= 0:
        return "the length of an interval was not told"
    total, longest = sum(measurement.intervals), max(measurement.intervals)
    if abs(total - measurement.operations) > longest:
        return f"the intervals hold {total:,} of {measurement.operations:,} operations"
    lasted = len(measurement.intervals) * measurement.interval_seconds
    if abs(lasted - measurement.seconds) > measurement.interval_seconds * (1 + LITTLE_SLACK):
        return f"the intervals last {lasted:.3g} s of {measurement.seconds:.3g} s"
    return None


def never_stood_still(measurement: Measurement, _: Latency | None) -> str | None:
    """No long stretch without an operation, but for the end, which may be cut."""
    whole = measurement.intervals[:-1]
    if not whole or measurement.interval_seconds <= 0:
        return None
    rate = sum(whole) / (len(whole) * measurement.interval_seconds)
    position = 0
    for still, group in groupby(whole, key=lambda count: count == 0):
        length = len(list(group))
        lasted = length * measurement.interval_seconds
        expected = lasted * rate
        if still and lasted > STANDSTILL_SECONDS_MAX and expected > STANDSTILL_EXPECTED_MIN:
            begin = position * measurement.interval_seconds
            return f"no operation was completed for {lasted:.3g} s, {begin:.3g} s after the start"
        position += length
    return None


def pace_is_steady(measurement: Measurement, _: Latency | None) -> str | None:
    """Both halves of the time were about equally fast: warm at the start, and not in decline."""
    whole = measurement.intervals[:-1]
    half = len(whole) // 2
    if not half or measurement.interval_seconds <= 0:
        return None
    first, second = (
        sum(part) / (half * measurement.interval_seconds) for part in (whole[:half], whole[-half:])
    )
    if max(first, second) <= DRIFT_MAX * min(first, second):
        return None
    return f"not steady: {first:,.0f}/s in the first half, {second:,.0f}/s in the second"


RULES: tuple[Rule, ...] = (
    long_enough,
    times_are_all_there,
    percentiles_rise,
    clock_is_fine_enough,
    little_holds,
    sums_agree,
    intervals_add_up,
    never_stood_still,
    pace_is_steady,
)
