"""`certeusd check --probe`: what it finds, by which key and line, and with which exit code."""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from certeusd.exits import Exit
from support.daemon import Daemon, scratch_dir
from support.flushing import query
from support.postgres import Server, installations, server

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

Findings = dict[str, dict[str, Any]]


@pytest.fixture
def root() -> Iterator[Path]:
    with scratch_dir() as folder:
        yield folder


def check(daemon: Daemon, code: int, *more: str) -> Findings:
    """The worst finding of each check."""
    done = subprocess.run(
        [*daemon.command(), "check", "--probe", "--json", *more],
        capture_output=True, env=daemon.env, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == code, (done.stdout, done.stderr)
    told = json.loads(done.stdout)
    assert told["ok"] == (code == Exit.OK)
    found: Findings = {}
    for one in told["findings"]:
        if one["level"] != "ok":
            assert one["next"] or one["level"] == "warning", one
        if found.setdefault(one["check"], one)["level"] == "ok":
            found[one["check"]] = one
    return found


def faults(found: Findings) -> set[str]:
    return {name for name, one in found.items() if one["level"] in ("fault", "unreachable")}


def test_all_is_well_with_a_server_that_certeus_may_use(root: Path, database: str) -> None:
    daemon = Daemon(root, f'[postgres]\ndsn = "{database}"\n')
    found = check(daemon, Exit.OK)
    assert "will be made" in found["postgres"]["what"]
    assert found["postgres"]["where"] == f"{daemon.config_path}:2"
    assert "durable in" in found["disk sync"]["what"]
    assert not daemon.state_dir.exists(), "nothing is made"

    async def schemas() -> int:
        async with query(database) as connection:
            return int(
                await connection.fetchval(
                    "SELECT count(*) FROM pg_namespace WHERE nspname = 'certeus'"
                )
            )

    assert asyncio.run(schemas()) == 0, "nothing is made there either"
    try:
        daemon.start()
        daemon.certeus("wait", "--ready")
        daemon.certeus("dsn")
        found = check(daemon, Exit.OK)
        assert "can be used" in found["postgres"]["what"]
        assert f"pid {daemon.pids('supervisor')[0]} has it" in found["lock"]["what"]
        assert daemon.stop() == 0
    finally:
        daemon.clean_up()


def test_a_server_that_loses_commits_is_a_fault(root: Path) -> None:
    with server(sorted(installations().items())[0][1], fsync="off") as running:
        daemon = Daemon(root, f'[postgres]\ndsn = "{running.dsn()}"\n')
        found = check(daemon, Exit.CONFIGURATION)
        assert faults(found) == {"postgres"}
        assert "fsync" in found["postgres"]["what"]


def test_a_missing_grant_is_told_with_the_grant(
    root: Path, postgres: Server, database: str
) -> None:
    async def prepare() -> None:
        async with query(database) as connection:
            await connection.execute("DROP ROLE IF EXISTS poor; CREATE ROLE poor LOGIN")

    asyncio.run(prepare())
    daemon = Daemon(root, f'[postgres]\ndsn = "{postgres.dsn(user="poor")}"\n')
    found = check(daemon, Exit.CONFIGURATION)
    assert faults(found) == {"postgres"}
    assert "GRANT CREATE ON DATABASE" in found["postgres"]["next"]


def test_a_server_that_is_not_there_or_never_answers_is_unreachable(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        daemon = Daemon(root, f'[postgres]\ndsn = "postgresql://u@127.0.0.1:{port}/d"\n')
        found = check(daemon, Exit.UNREACHABLE)
        assert faults(found) == {"postgres"}
        assert "no answer" in found["postgres"]["what"]
    found = check(daemon, Exit.UNREACHABLE)
    assert faults(found) == {"postgres"}
    done = subprocess.run(
        [*daemon.command(), "check"], capture_output=True, env=daemon.env, check=False
    )
    assert done.returncode == 0, "without --probe nobody is asked"


def test_names_cpus_and_files_that_are_not_there_are_faults_with_key_and_line(root: Path) -> None:
    config = """
[cpu]
pin = "off"
cpus = "0,4095"
[control]
admins = ["nobody-has-this-name"]
[postgres]
dsn = "postgresql://u@127.0.0.1:1/d"
password_file = "/nowhere/password"
"""
    daemon = Daemon(root, config)
    found = check(daemon, Exit.CONFIGURATION)
    assert faults(found) == {"cpus", "users", "postgres"}
    where = {one["key"]: one["where"] for one in found.values() if one["key"]}
    assert where == {
        "cpu.cpus": f"{daemon.config_path}:4",
        "control.admins": f"{daemon.config_path}:6",
        "postgres.password_file": f"{daemon.config_path}:9",
    }
    assert "4095" in found["cpus"]["what"]


def test_directories_that_cannot_be_made_are_faults(root: Path) -> None:
    daemon = Daemon(root)
    command = [
        sys.executable, "-m", "certeusd", "--state-dir", "/proc/nowhere", "--runtime-dir",
        "/" + "x" * 120, "check", "--probe", "--json",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, env=daemon.env, check=False)
    assert done.returncode == Exit.CONFIGURATION
    found = [one for one in json.loads(done.stdout)["findings"] if one["level"] == "fault"]
    assert "sockets" in {one["check"] for one in found}


def test_for_a_human_each_fault_has_its_next_step_behind_it(root: Path) -> None:
    daemon = Daemon(root, '[cpu]\ncpus = "4095"\n')
    command = [*daemon.command(), "check", "--probe"]
    done = subprocess.run(command, capture_output=True, env=daemon.env, check=False, text=True)
    assert done.returncode == Exit.CONFIGURATION
    lines = done.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("fault"))
    assert f"(cpu.cpus, {daemon.config_path}:2)" in lines[at]
    assert lines[at + 1].strip().startswith("-> ")
