"""The failpoints of Python: each stands in the code once, and a process dies there once."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import certeusd
from certeusd.failpoint import NAMES, failpoint

PROGRAM = """
from certeusd.failpoint import failpoint
for _ in range(3):
    failpoint("flush-after-commit")
    failpoint("flush-before-begin")
    print("passed", flush=True)
"""


def run(armed: str) -> "subprocess.CompletedProcess[str]":
    environ = {**os.environ, "CERTEUS_FAILPOINT": armed, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environ, capture_output=True, text=True, check=False
    )


def test_every_name_stands_in_the_code_once_and_no_other_does() -> None:
    found: list[str] = []
    for path in Path(certeusd.__file__).parent.rglob("*.py"):
        found += re.findall(r'\bfailpoint\("([^"]+)"\)', path.read_text())
    assert sorted(found) == sorted(NAMES)


def test_a_name_that_is_not_listed_is_our_own_mistake() -> None:
    with pytest.raises(AssertionError):
        failpoint("flush-somewhere")


def test_a_process_dies_at_its_failpoint_when_its_count_is_reached_and_only_once(
    tmp_path: Path,
) -> None:
    armed = f"flush-before-begin=2@{tmp_path / 'flag'}"
    first = run(armed)
    assert (first.returncode, first.stdout) == (-signal.SIGKILL, "passed\n")
    second = run(armed)
    assert (second.returncode, second.stdout) == (0, "passed\n" * 3)


@pytest.mark.parametrize("armed", ["", "flush-before-begin", "flush-before-begin=x@/flag"])
def test_what_is_no_failpoint_arms_none(armed: str) -> None:
    assert run(armed).returncode == 0
