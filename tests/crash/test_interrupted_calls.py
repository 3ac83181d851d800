"""A signal amid a system call of the log is no error: every second such call is interrupted.

And a full disk keeps the pid out of the lock file, never the daemon from starting.
"""

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from certeusd.exits import ExitError
from certeusd.supervisor import locks

LOG = """
import sys
from pathlib import Path
from certeusd._native import LogWriter
from support.log_machine import BOARD_BYTES, OPTIONS, memory
root = Path(sys.argv[1])
for _ in range(2):
    writer = LogWriter(root / "log", root / "aside", memory(BOARD_BYTES), bytes(32), OPTIONS)
    writer.seal()
    del writer
print(sorted(path.name for path in (root / "log").iterdir()))
"""
TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("call", ["pwrite64", "fdatasync", "openat", "rename"])
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace: tools/setup.sh test")
def test_an_interrupted_call_of_the_log_is_made_again(call: str, tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    told, first = tmp_path / "strace", tmp_path / "log" / "00000000000000000001.log"
    # The program loader opens files too, and gives up.
    only: list[str | Path] = (
        ["-P", first, "-P", first.with_name("next")] if call == "openat" else []
    )
    done = subprocess.run(
        ["strace", "-f", "-qq", "-o", told, "-e", f"trace={call}", "-e", "signal=none",
         "-e", f"inject={call}:error=EINTR:when=1+2", *only, sys.executable, "-c", LOG, tmp_path],
        cwd=TESTS, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert first.name in done.stdout
    assert "EINTR" in told.read_text(), f"no {call} was interrupted"


def test_a_disk_with_no_byte_left_keeps_the_pid_out_of_the_lock_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        held = locks.hold(tmp_path / "lock")
    with pytest.raises(ExitError, match="in use by pid unknown"):
        locks.hold(tmp_path / "lock")
    os.close(held)
