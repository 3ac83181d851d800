"""What the doctor thinks of what it finds."""

from pathlib import Path

import pytest

from certeusd.cli import doctor_checks as checks
from certeusd.cli.doctor_checks import Finding, Placed

GOOD = {
    "fsync": "on", "full_page_writes": "on", "synchronous_commit": "on",
    "server_encoding": "UTF8", "server_version": "18.4", "max_wal_size": "4096",
}  # fmt: skip


def levels(findings: list[Finding]) -> list[str]:
    return [one.level for one in findings]


@pytest.mark.parametrize(
    ("finding", "level", "word"),
    [
        (checks.affinity([Placed("log", 2, frozenset({2}))]), "ok", "log on CPU 2"),
        (checks.affinity([Placed("log", None, frozenset({0, 1}))]), "ok", "nothing is pinned"),
        (checks.affinity([Placed("log", 2, frozenset({0, 1}))]), "warning", "runs on 0,1"),
        (checks.locked_memory(False, 8 << 20), "ok", "off"),
        (checks.locked_memory(True, checks.UNLIMITED), "ok", "no limit"),
        (checks.locked_memory(True, 8 << 20), "problem", "8192 KiB"),
        (checks.huge_pages(False, "always [never]"), "ok", "off"),
        (checks.huge_pages(True, "always within_size [advise] never"), "ok", "advise"),
        (checks.huge_pages(True, "always within_size advise [never]"), "warning", "never"),
        (checks.room(10 << 30, 2 << 30), "ok", "10240 MiB"),
        (checks.room(3 << 30, 2 << 30), "warning", "3072 MiB"),
        (checks.descriptors(65_536, 1024), "ok", "65536"),
        (checks.descriptors(1024, 1024), "warning", "5376"),
    ],
)
def test_a_finding_is_judged_and_what_is_not_well_has_a_remedy(
    finding: Finding, level: str, word: str
) -> None:
    assert finding.level == level
    assert word in finding.what
    assert bool(finding.fix) is (level != "ok")


def test_a_slow_clock_and_one_that_nobody_keeps_are_told() -> None:
    assert levels(checks.clock("tsc", synchronized=True)) == ["ok", "ok"]
    assert levels(checks.clock("acpi_pm", synchronized=False)) == ["warning", "warning"]


def test_a_disk_is_judged_by_its_slowest_syncs_and_by_where_it_is() -> None:
    fast = [0.1] * 98
    assert checks.syncs([*fast, 15.0, 15.0]).level == "ok"
    assert checks.syncs([*fast, 25.0, 25.0]).level == "warning"
    assert (checks.file_system("ext4").level, checks.file_system("nfs4").level) == ("ok", "problem")


def test_only_a_control_socket_that_is_open_to_all_is_a_problem() -> None:
    run = Path("/run/certeus")
    modes = {run / "control.sock": 0o660, run / "ingest.sock": 0o666}
    assert levels(checks.sockets(modes)) == ["ok", "ok"]
    assert levels(checks.sockets({run / "control.sock": 0o666})) == ["problem"]


@pytest.mark.parametrize(
    ("changed", "level", "word"),
    [
        ({}, "ok", "18.4"),
        ({"synchronous_commit": "remote_apply"}, "ok", "18.4"),
        ({"fsync": "off"}, "problem", "fsync is off"),
        ({"synchronous_commit": "off"}, "problem", "synchronous_commit is off"),
        ({"server_encoding": "LATIN1"}, "problem", "LATIN1"),
        ({"max_wal_size": "100"}, "warning", "100 MiB"),
    ],
)
def test_a_server_is_judged_by_what_it_would_lose_and_then_by_what_it_costs(
    changed: dict[str, str], level: str, word: str
) -> None:
    (finding,) = checks.postgres({**GOOD, **changed})
    assert (finding.level, word in finding.what) == (level, True)
