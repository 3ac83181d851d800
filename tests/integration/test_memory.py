"""What keeps certeusd small, for a process of each role."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from certeusd.doors import DOORS
from certeusd.supervisor.child import SMALL
from support.daemon import running
from support.waiting import wait_until

ROLES = ("log", "worker", "flush", *DOORS)
CONFIG = '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n'


@pytest.mark.integration
def test_a_child_gives_large_blocks_back() -> None:
    with running(CONFIG, doors=DOORS) as daemon:
        for role in ROLES:
            for pid in wait_until(role, partial(daemon.pids, role)):
                given = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                assert {f"{name}={value}".encode() for name, value in SMALL.items()} <= set(given)


@pytest.mark.parametrize("program", ["certeusd.__main__", "certeusd.supervisor.supervisor"])
def test_the_supervisor_loads_nothing_for_tables(program: str) -> None:
    assert_no_tables(program)


@pytest.mark.parametrize("role", ROLES)
def test_a_child_loads_nothing_for_tables(role: str) -> None:
    assert_no_tables(f"certeusd.{role}.__main__")


def assert_no_tables(module: str) -> None:
    looking = f"import {module}, sys; print(*sorted(sys.modules), sep='\\n')"
    answer = subprocess.run(
        [sys.executable, "-P", "-c", looking], capture_output=True, text=True, check=True
    )
    loaded = answer.stdout.splitlines()
    assert module in loaded
    assert not {"rich", "pygments"} & set(loaded)


def test_rich_is_there_for_the_commands() -> None:
    looking = "import certeusd.logs, sys; assert 'rich' not in sys.modules; import rich.table"
    subprocess.run([sys.executable, "-P", "-c", looking], check=True)
