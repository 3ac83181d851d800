"""Which stage holds the others up: a table of what was counted."""

import pytest

from certeusd.supervisor.bottleneck import WINDOW_TICKS, Bottlenecks, Sample, judge

IDLE = Sample(0, 0, 0, 1.0, no_room=False, delivers=True)


def window(
    came: int = 0,
    went: int = 0,
    *,
    behind: int = 0,
    waits: int = 0,
    percent: tuple[float, float] = (1.0, 1.0),
    no_room: bool = False,
    delivers: bool = True,
) -> list[Sample]:
    """Samples in which so many events come, go, and so many waits happen, evenly.

    Args:
        came: events that become durable.
        went: rows that are delivered.
        behind: events that wait at the beginning.
        waits: of workers for the log writer.
        percent: processor time of the worker, before and from the last sample on.
        no_room: whether the log is full.
        delivers: whether there is a connection.
    """
    return [
        Sample(
            behind + came * tick // WINDOW_TICKS, went * tick // WINDOW_TICKS,
            waits * tick // WINDOW_TICKS, percent[tick == WINDOW_TICKS],
            no_room=no_room, delivers=delivers,
        )
        for tick in range(WINDOW_TICKS + 1)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("samples", "stage"),
    [
        (window(), None),
        # A load that everybody follows.
        (window(500_000, 499_000), None),
        # Some waits are no rule.
        (window(waits=3), None),
        (window(waits=500), "commit"),
        (window(percent=(99.0, 99.0)), "ingest"),
        (window(percent=(50.0, 99.0)), None),
        # Who waits for another is not slow himself.
        (window(percent=(99.0, 99.0), waits=500), "commit"),
        (window(no_room=True, waits=500), "deliver"),
        (window(500_000, 300_000), "deliver"),
        # A small lag is a batch under way.
        (window(5_000, 2_000), None),
        # It catches up.
        (window(100_000, 300_000, behind=500_000), None),
    ],
)
def test_the_stage_that_others_wait_for_is_named(samples: list[Sample], stage: str | None) -> None:
    found = judge(samples)
    assert (found.stage if found else None) == stage


def test_what_a_full_log_waits_for_is_told() -> None:
    away = judge(window(no_room=True, delivers=False))
    assert away is not None
    assert "PostgreSQL is away" in away.what


def test_nothing_is_said_before_a_window_is_full() -> None:
    seen = Bottlenecks()
    for tick in range(WINDOW_TICKS):
        seen.add(IDLE._replace(forward_full=100 * tick))
        assert seen.find() is None
    seen.add(IDLE._replace(forward_full=1000))
    found = seen.find()
    assert found is not None
    assert found.stage == "commit"
