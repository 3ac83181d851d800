"""What the embedded PostgreSQL says becomes lines with a priority."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from certeusd import logs
from certeusd.supervisor.postgres_output import LINE_BYTES_MAX, Lines, ServerLog

Logged = tuple[str, str, str]


def logged(*lines: str) -> list[Logged]:
    """Level, severity and message of each line."""
    with capture_logs() as found:
        log = ServerLog(logs.audit_logger())
        for line in lines:
            log.take(line)
    return [(one["log_level"], one["severity"], one["message"]) for one in found]


@pytest.mark.parametrize(
    ("severity", "level"),
    [
        ("DEBUG1", "debug"), ("LOG", "info"), ("NOTICE", "info"), ("WARNING", "warning"),
        ("ERROR", "warning"), ("FATAL", "warning"), ("PANIC", "error"),
    ],
)  # fmt: skip
def test_a_severity_is_a_level(severity: str, level: str) -> None:
    assert logged(f"{severity}:  some text:  more") == [(level, severity, "some text:  more")]


def test_what_belongs_to_a_line_has_its_level() -> None:
    assert logged(
        "PANIC:  could not write", "\tto the disk", "DETAIL:  no room", "LOG:  ended",
        "HINT:  none",
    ) == [
        ("error", "PANIC", "could not write"), ("error", "PANIC", "to the disk"),
        ("error", "DETAIL", "no room"), ("info", "LOG", "ended"), ("info", "HINT", "none"),
    ]  # fmt: skip


def test_what_is_not_the_servers_own_way_to_speak_is_a_warning() -> None:
    line = "postgres: error while loading shared libraries: libicu.so"
    assert logged(line, "\tmore") == [("warning", "", line), ("warning", "", "more")]


@given(st.lists(st.binary(min_size=1, max_size=40)))
def test_pieces_are_put_together_wherever_they_were_cut(pieces: list[bytes]) -> None:
    found = list[str]()
    lines = Lines(found.append)
    for piece in pieces:
        lines.feed(piece)
    lines.feed(b"")
    whole = b"".join(pieces).split(b"\n")
    assert found == [text for line in whole if (text := line.decode(errors="replace").rstrip())]


def test_a_line_of_megabytes_is_cut_and_the_next_one_is_whole() -> None:
    found = list[str]()
    lines = Lines(found.append)
    for _ in range(32):
        lines.feed(b"x" * (1 << 16))
    lines.feed(b"\nLOG:  next\n")
    assert found == ["x" * LINE_BYTES_MAX, "LOG:  next"]
