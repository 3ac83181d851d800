"""How far the log writer's start is, from its page of the board: for status and systemd."""

from collections.abc import Sequence

from certeusd.board import Board
from certeusd.control.types import Recovery
from certeusd.supervisor.state import Reason

PHASES = ("waiting", "looking", "reading", "opening")
"""By the words of `daemon/src/log/progress.rs`."""


def seen(board: Board) -> Recovery:
    """Read the words of the board; they are of the newest start."""
    phase = board.get("log", "recovery_phase")
    return Recovery(
        phase=PHASES[phase] if phase < len(PHASES) else "waiting",
        segments=board.get("log", "recovery_segments"),
        segments_done=board.get("log", "recovery_segments_done"),
        bytes=board.get("log", "recovery_bytes"),
        bytes_done=board.get("log", "recovery_bytes_done"),
    )


def line(board: Board, reasons: Sequence[Reason]) -> str:
    """Render what systemd shows as the unit's status."""
    if reasons:
        return f"recovering: {reasons[0].code}: {reasons[0].what}"
    now = seen(board)
    done = f"segment {now.segments_done} of {now.segments}"
    return f"recovering, {now.phase}: {done}, {now.bytes_done >> 20} of {now.bytes >> 20} MiB"
