"""The texts of the status page: of a moment, for the page itself and for what updates it. Pure.

A cell is text and a tone, never markup: the page escapes it, its script sets it as text. What a
stranger wrote is harmless by then (`human.harmless`).
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import msgspec

from certeusd.api.last_events import EventRow
from certeusd.api.live_view import STAGES_OFF, Live, ProcessRow, VerdictRow
from certeusd.control import rates, types
from certeusd.human import (
    NONE,
    harmless,
    human_bytes,
    human_count,
    human_seconds,
    short,
    short_bytes,
    short_time,
)

FULL_FROM = 0.75
TEXT_LENGTH_MAX = 500
CHART_WIDTH, CHART_HEIGHT = 240, 40
SEGMENTS = 120

Tone = Literal["", "good", "pressure", "loss", "quiet"]
STATES: dict[str, Tone] = {"ready": "good", "degraded": "pressure", "recovering": "pressure",
                           "starting": "pressure", "draining": "pressure"}  # fmt: skip


PROCESSES: dict[str, Tone] = {"ready": "", "starting": "pressure"}


class Cell(NamedTuple):
    """What stands in one place."""

    text: str
    tone: Tone = ""


class Cells(msgspec.Struct, frozen=True):
    """Everything that changes on the page."""

    texts: dict[str, Cell]
    tables: dict[str, list[list[Cell]]]
    line: str
    """Points of the chart."""


def cells(one: Live) -> Cells:
    """Say how a moment looks."""
    speed = one.history[-1] if one.history else None
    behind = one.bottleneck is not None and one.bottleneck.stage == "deliver"
    lag: Tone = "pressure" if behind else ""
    return Cells(
        texts={
            "state": Cell(one.state, STATES.get(one.state, "loss")),
            "title": Cell(f"{one.state}: {short(speed)} events/s"),
            "about": Cell(f"certeus {one.version}, up {human_seconds(one.uptime_seconds)}"),
            "at": Cell(f"{_clock(one.at)} UTC"),
            "speed": Cell(short(speed)),
            "peak": Cell(short(max(one.history, default=None))),
            "durable": Cell(human_count(one.durable_seq)),
            "flushed": Cell(human_count(one.flushed_seq)),
            "lag": Cell(human_count(one.lag_events), lag),
            "lag_time": Cell(human_seconds(one.lag_seconds) if one.lag_events else "0 s", lag),
            "shown": Cell(_shown(one)),
            "bottleneck": Cell(_bottleneck(one.bottleneck), "pressure"),
        },
        tables={
            "reasons": [_reason(each) for each in one.reasons],
            "stages": [_stage(each) for each in one.stages],
            "producers": [_producer(each) for each in one.producers],
            "verdicts": [_verdict(each) for each in one.verdicts],
            "processes": [_process(each) for each in one.processes],
            "events": [_event(each) for each in one.events],
        },
        line=points(one.history),
    )


def points(history: Sequence[float]) -> str:
    """Render the chart's line: the newest at the right, the highest at the top."""
    if not history:
        return ""
    top = max(*history, 1.0)
    step = CHART_WIDTH / (SEGMENTS - 1)
    first = CHART_WIDTH - step * (len(history) - 1)
    return " ".join(
        f"{first + step * at:.1f},{CHART_HEIGHT * (1 - value / top):.1f}"
        for at, value in enumerate(history)
    )


def _clock(at: str) -> str:
    return at[11:19]


def _shown(one: Live) -> str:
    shown = len(one.producers)
    return str(shown) if shown == one.producers_count else f"{shown} of {one.producers_count}"


def _bottleneck(one: types.Bottleneck | None) -> str:
    return "" if one is None else f"{one.stage} holds the others up: {_text(one.what)}"


def _text(text: str) -> str:
    return harmless(text, TEXT_LENGTH_MAX)


def _reason(one: types.Reason) -> list[Cell]:
    return [Cell(one.code, "pressure"), Cell(_text(one.what)), Cell(_text(one.next))]


def _stage(one: rates.Stage) -> list[Cell]:
    if one.stage in STAGES_OFF:
        return [Cell(one.stage, "quiet"), *[Cell(NONE, "quiet")] * 5]
    return [
        Cell(one.stage),
        Cell(short(one.events_per_second)),
        Cell(short_bytes(one.bytes_per_second)),
        Cell(short_time(one.p50_seconds)),
        Cell(short_time(one.p99_seconds)),
        Cell(short(one.rejected_per_second), "loss" if one.rejected_per_second else ""),
    ]


def _producer(one: rates.Producer) -> list[Cell]:
    idle: Tone = "quiet" if not one.events_per_second else ""
    rejected = sorted(one.rejected.items(), key=lambda each: (-each[1], each[0]))
    return [
        Cell(one.source, idle),
        Cell(short(one.events_per_second), idle),
        Cell(short_bytes(one.bytes_per_second), idle),
        Cell(short_time(one.ack_p50_seconds)),
        Cell(short_time(one.ack_p99_seconds)),
        Cell(f"{one.ring_fill * 100:.0f} %", "pressure" if one.ring_fill >= FULL_FROM else ""),
        Cell(human_count(one.duplicates_total)),
        Cell(
            ", ".join(f"{short(count)} {reason}" for reason, count in rejected),
            "loss" if one.rejected_per_second else "quiet",
        ),
    ]


def _verdict(one: VerdictRow) -> list[Cell]:
    tone: Tone = "loss" if one.reason and one.per_second else ""
    name = f"{one.verdict}: {one.reason}" if one.reason else one.verdict
    return [Cell(name, tone), Cell(human_count(one.total)), Cell(short(one.per_second), tone)]


def _process(one: ProcessRow) -> list[Cell]:
    tone = PROCESSES.get(one.state, "loss")
    return [
        Cell(one.name),
        Cell(one.state, tone),
        Cell(NONE if one.pid is None else str(one.pid)),
        Cell(f"{one.cpu_percent:.0f} %"),
        Cell(human_bytes(one.rss_bytes)),
        Cell(str(one.restarts), "pressure" if one.restarts else ""),
    ]


def _event(one: EventRow) -> list[Cell]:
    tone: Tone = "pressure" if one.verdict == "escalated" else ""
    return [
        Cell(str(one.seq), tone),
        Cell(_clock(one.recorded_at), "quiet"),
        Cell(one.source),
        Cell(one.type),
        Cell(one.subject or ""),
        Cell(one.data),
    ]
