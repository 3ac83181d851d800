"""The log on a disk in memory: power cuts sector by sector, each bit flipped, each length cut.

The attacks are Rust tests of the log, whose rows are taken here. At their full size they run in
release mode; else to build that takes longer than they do.
"""

import json
import os
import subprocess
from pathlib import Path

import pytest

from support.attack import Attack, Outcome

ROOT = Path(__file__).resolve().parents[2]
_CARGO = (
    *("cargo", "test", "--locked", "--quiet"),
    *("-p", "certeus-core", "--no-default-features", "--lib"),
)


@pytest.mark.crash
@pytest.mark.timeout(1500)
@pytest.mark.parametrize(
    "test",
    [
        "every_crash_state_keeps_what_was_acknowledged",
        "no_flipped_bit_drops_an_acknowledged_event_in_silence",
        "a_check_sees_every_flipped_bit_but_those_of_padding",
        "a_cut_file_is_told_as_a_gap_once_a_follower_knows_more",
        "the_window_is_the_newest_ids_through_all_that_happens",
    ],
)
def test_nothing_acknowledged_is_lost_in_silence(attack: Attack, test: str) -> None:
    size, mode = ("full", ["--release"]) if attack.full else ("fast", [])
    run = subprocess.run(
        [*_CARGO, *mode, test, "--", "--nocapture"],
        cwd=ROOT,
        env={**os.environ, "CERTEUS_ATTACK": size, "CERTEUS_SEED": str(attack.seed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, f"CERTEUS_SEED={attack.seed}\n{run.stdout}\n{run.stderr}"
    told = [line.partition("ATTACK ")[2] for line in run.stdout.splitlines() if "ATTACK " in line]
    assert len(told) == 1, run.stdout
    attack.report(Outcome(**json.loads(told[0])))
