"""The position file of a follower, as the log writer reads it before it recovers."""

import json
from pathlib import Path

import pytest

from certeusd.log.follower import FollowerPosition, read_position

NOTHING = FollowerPosition()
TOLD = {"group": 7, "seq": 42, "root": "ab" * 32}


def write(directory: Path, text: str) -> None:
    directory.mkdir(exist_ok=True)
    (directory / "postgres").write_text(text)


def test_what_was_synced_is_the_floor(tmp_path: Path) -> None:
    write(tmp_path, json.dumps(TOLD | {"more": "is ignored"}))
    assert read_position(tmp_path) == FollowerPosition(7, 42, bytes.fromhex("ab" * 32))


def test_no_file_or_directory_is_nothing_confirmed(tmp_path: Path) -> None:
    assert read_position(tmp_path) == NOTHING
    assert read_position(tmp_path / "nowhere") == NOTHING


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "\x00",
        json.dumps(TOLD)[:-3],
        json.dumps(TOLD | {"root": "not hex"}),
        json.dumps(TOLD | {"root": "ab"}),
        json.dumps(TOLD | {"seq": -1}),
        json.dumps(TOLD | {"seq": 1 << 64}),
        json.dumps(TOLD | {"seq": None}),
        json.dumps({"group": 7, "seq": 42}),
    ],
)
def test_a_damaged_file_never_stops_a_start(tmp_path: Path, text: str) -> None:
    write(tmp_path, text)
    assert read_position(tmp_path) == NOTHING
