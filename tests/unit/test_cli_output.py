"""Where the command line writes: a disk that is full, a descriptor that is closed."""

import subprocess
import sys

import pytest

from certeusd.exits import Exit

NO_ROOM = b"certeus: cannot write standard output: No space left on device\n"


def certeus(redirected: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "certeusd.cli", *arguments]
    shell = ["sh", "-c", f'"$@" {redirected}', "sh", *command]
    return subprocess.run(shell, capture_output=True, timeout=60, check=False)


def test_a_disk_that_is_full_is_told_in_one_line() -> None:
    done = certeus(">/dev/full", "--help")
    assert (done.returncode, done.stderr) == (Exit.FAILED, NO_ROOM)


@pytest.mark.parametrize("redirected", ["2>/dev/full", "2>&-"])
def test_who_reads_no_errors_gets_the_exit_code_all_the_same(redirected: str) -> None:
    done = certeus(redirected, "no-such-verb")
    assert (done.returncode, done.stderr) == (Exit.USAGE, b"")


def test_a_closed_output_shows_nothing() -> None:
    done = certeus(">&-", "status", "--runtime-dir", "/nonexistent")
    assert (done.returncode, done.stdout) == (Exit.USAGE, b"")
    done = certeus(">&-", "--runtime-dir", "/nonexistent", "tap")
    assert (done.returncode, done.stdout) == (Exit.UNREACHABLE, b"")
    assert b"Traceback" not in done.stderr
