"""promtool, as `tools/promtool.sh` finds it; where there is none, who needs it is skipped."""

import functools
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def _found() -> tuple[str, str]:
    """Return its path, or why there is none."""
    done = subprocess.run(
        [ROOT / "tools" / "promtool.sh"], capture_output=True, text=True, check=False
    )
    lines = done.stderr.strip().splitlines()
    return done.stdout.strip(), lines[-1] if lines else f"promtool.sh: exit {done.returncode}"


def promtool(*arguments: str, stdin: str = "", cwd: Path = ROOT) -> str:
    """Run it; what it says must be that all is well.

    Returns:
        What it printed, errors too.
    """
    path, why = _found()
    if not path:
        pytest.skip(why)
    done = subprocess.run(
        [path, *arguments], input=stdin, capture_output=True, text=True, cwd=cwd, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said
