"""How numbers look to a human."""

import json

import pytest

from certeusd import human


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, human.NONE), (0.0, "0"), (9.94, "9.9"), (9.96, "10"), (999.4, "999"),
     (999.6, "1.0 k"), (12_345.0, "12.3 k"), (123_456.0, "123 k"), (999_600.0, "1.0 M"),
     (7e12, "7000 G")],
)  # fmt: skip
def test_numbers_are_short(value: float | None, text: str) -> None:
    assert human.short(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, human.NONE), (0.0, "0.0 µs"), (85e-6, "85 µs"), (0.0012, "1.2 ms"),
     (0.9999, "1.0 s"),     (75.0, "1 min 15 s")],
)  # fmt: skip
def test_times_are_short(value: float | None, text: str) -> None:
    assert human.short_time(value) == text


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.25, "0.2 s"), (42, "42 s"), (90, "1 min 30 s"), (7300, "2 h 1 min"), (90000, "1 d 1 h")],
)
def test_durations_are_short(seconds: float, shown: str) -> None:
    assert human.human_seconds(seconds) == shown


def test_bytes_are_short() -> None:
    assert [human.human_bytes(n) for n in (0, 1023, 1024, 1 << 26)] == [
        "0 B", "1023 B", "1.0 KiB", "64.0 MiB",
    ]  # fmt: skip


def test_json_on_a_screen_is_the_same_json_and_cannot_steer_it() -> None:
    lines = '{"a":\t"\x9b31m\x7f\u202e\U000e0041"}\n{"b": "é"}\n'
    shown = human.harmless_json(lines.encode()).decode()
    assert shown.replace("\t", "").replace("\n", "").isprintable()
    assert [json.loads(line) for line in shown.splitlines()] == [
        json.loads(line) for line in lines.splitlines()
    ]
    assert "é" in shown
