"""Which stage gave, over tables of samples that no machine made; and what a load is held to."""

from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
import pytest
from click.testing import CliRunner

from certeus_bench import evidence
from certeus_bench.load import cli, outcome, shown
from certeus_bench.load.asked import Asked
from certeus_bench.load.generator import Load, measurement
from certeus_bench.load.producer import Report
from certeus_bench.load.profile import Profile
from certeus_bench.load.progress import Page
from certeus_bench.load.read_back import Found, Rows, judged
from certeus_bench.load.sampling import Sample
from certeus_bench.load.schedule import Ramp, Stairs
from certeus_bench.load.stages import Stage, gave, rates
from certeus_bench.load.stress import Step, Watch, first_to_give, is_over, steps
from certeus_bench.results import Label
from certeusd.exits import Exit
from support.bench_results import times

MS = 1_000_000


def climb(  # what each of a step's stages does in a second
    due: int,
    sent: int,
    durable: int,
    flushed: int,
    *,
    full: float = 0.0,
    sync: float = 0.1,
    count: int = 6,
    begin_s: float = 0.0,
    **busy: float,
) -> list[Sample]:
    """Samples half a second apart, of two producers."""
    return [
        Sample(
            at_s=begin_s + at / 2,
            due=due * at // 2,
            sent=sent * at // 2,
            settled=durable * at // 2,
            producers=2,
            ring_full_s=2 * full * at / 2,
            durable_seq=durable * at // 2,
            flushed_seq=flushed * at // 2,
            sync_s=sync * at / 2,
            groups=10 * at,
            busy_s={name.replace("_", "-"): share * at / 2 for name, share in busy.items()},
            cpu_s={name: share * at / 2 for name, share in busy.items()},
        )
        for at in range(count)
    ]


HELD = climb(1000, 1000, 1000, 1000)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (HELD, []),
        (climb(1000, 999, 990, 985), []),
        (climb(1000, 1000, 1000, 800), [Stage.POSTGRES]),
        (climb(1000, 800, 800, 800, producer_0=1.0, log=0.9), [Stage.PRODUCERS]),
        (climb(1000, 800, 800, 700, producer_1=0.7), [Stage.PRODUCERS, Stage.POSTGRES]),
        (climb(1000, 800, 800, 800, full=0.9, worker_0=0.97, log=0.5), [Stage.WORKER]),
        (climb(1000, 800, 800, 800, full=0.9, worker_0=0.5, log=0.95), [Stage.LOG]),
        (climb(1000, 800, 800, 800, full=0.9, sync=0.95, worker_0=0.1, log=0.05), [Stage.LOG]),
        (climb(1000, 800, 800, 800, full=0.9, sync=0.3, worker_0=0.1, log=0.2), [Stage.RING]),
        # Rings that are not full yet: what waits in them says that those behind do not follow.
        (climb(1000, 1000, 800, 800, worker_0=0.2, worker_1=0.9), [Stage.WORKER]),
        (climb(1000, 800, 800, 600, full=0.9, log=0.99), [Stage.LOG, Stage.POSTGRES]),
    ],
)
def test_the_stage_that_gave_is_named(step: Sequence[Sample], expected: list[Stage]) -> None:
    assert [given.stage for given in gave(step)] == expected


def test_a_stall_in_one_half_of_a_step_is_no_end() -> None:
    step = climb(1000, 1000, 1000, 1000)
    behind = [0, 0, 0, 20, 400, 800]
    late = [
        msgspec.structs.replace(sample, flushed_seq=sample.flushed_seq - waiting)
        for sample, waiting in zip(step, behind, strict=True)
    ]
    assert gave(late[:4]) == []
    assert gave(late) == []
    caught_up = [msgspec.structs.replace(one, settled=one.settled - 300) for one in step[:3]]
    assert gave([*caught_up, *step[3:]]) == []


def test_rates_are_those_between_two_samples() -> None:
    found = rates(*climb(1000, 900, 800, 700, full=0.25, sync=0.5, worker_0=0.9, log=0.1)[1::2][:2])
    assert (found.due, found.sent, found.durable, found.flushed) == (1000, 900, 800, 700)
    assert (found.ring_full, found.sync) == (0.25, 0.5)
    assert found.busiest("worker") == pytest.approx(0.9)
    assert found.busiest("flush") == 0.0


def test_a_process_that_was_born_between_two_samples_is_left_out() -> None:
    first, last = HELD[0], msgspec.structs.replace(HELD[-1], busy_s={"worker-0": 5.0})
    assert rates(first, last).busy == {}


# --- stairs --------------------------------------------------------------------------------------

STAIRS = Stairs([1000.0, 2000.0, 4000.0, 8000.0, 16000.0], 5.0)


def stress(*parts: list[Sample]) -> list[Sample]:
    """Samples of several steps in a row, each going on where the one before ended."""
    whole: list[Sample] = []
    for part in parts:
        base = whole[-1] if whole else Sample(at_s=0.0, producers=2)
        whole += [
            msgspec.structs.replace(
                one,
                at_s=base.at_s + one.at_s,
                due=base.due + one.due,
                sent=base.sent + one.sent,
                settled=base.settled + one.settled,
                durable_seq=base.durable_seq + one.durable_seq,
                flushed_seq=base.flushed_seq + one.flushed_seq,
            )
            for one in part[1:]
        ]
    return whole


def part(due: int, durable: int, flushed: int) -> list[Sample]:
    return climb(due, due, durable, flushed, count=11, log=0.95)


CLIMB = stress(
    part(1000, 1000, 1000), part(2000, 2000, 1500), part(4000, 4000, 1500), part(8000, 5000, 1500),
    part(16000, 5000, 1500),
)  # fmt: skip


def test_steps_are_those_that_are_over() -> None:
    assert [step.target_per_second for step in steps(STAIRS, CLIMB[:9])] == []
    assert [step.target_per_second for step in steps(STAIRS, CLIMB[:20])] == [1000.0, 2000.0]
    done = steps(STAIRS, CLIMB)
    assert len(done) == 5
    assert done[1].samples[0].at_s == 6.0
    assert done[1].rates.flushed == pytest.approx(1500)


def test_stages_are_told_in_the_order_in_which_they_gave() -> None:
    found = first_to_give(steps(STAIRS, CLIMB))
    assert [(step.target_per_second, given.stage) for step, given in found] == [
        (2000.0, Stage.POSTGRES),
        (8000.0, Stage.LOG),
    ]


def test_a_stage_that_holds_the_next_step_has_not_given() -> None:
    checkpoint = stress(part(1000, 1000, 600), part(2000, 2000, 2200))
    done = steps(Stairs([1000.0, 2000.0], 5.0), checkpoint)
    assert [given.stage for given in done[0].gave] == [Stage.POSTGRES]
    assert first_to_give(done) == []


@pytest.mark.parametrize(("through", "told"), [(False, 3), (True, 5)])
def test_a_load_ends_when_it_is_known_what_gives(
    through: bool, told: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    page = Page.make(tmp_path_factory.mktemp("load") / "page")
    seen: list[Step] = []
    watch = Watch(STAIRS, through=through, told=seen.append)
    for count in range(1, len(CLIMB) + 1):
        watch(CLIMB[:count], page)
    assert page.is_stopped()
    assert len(seen) == told
    assert is_over(seen, through=through)


def test_findings_name_the_last_rate_that_all_held() -> None:
    first, second, held = shown.findings(steps(STAIRS, CLIMB))
    assert "postgres" in first
    assert "2,000/s" in first
    assert "log" in second
    assert "all stages held 1,000/s" in held
    assert shown.findings([]) == ["nothing gave: raise --to"]


# --- what a load is held to ----------------------------------------------------------------------

PLAN = Ramp(1000.0, 1.0, 11.0)
REPORT = Report(
    source="load/x/0", due=10_500, sent=10_500, settled=10_500, accepted=10_500, duplicates=0,
    rejected=0, resent=0, operations=10_000, bytes=2_000_000, written_sum=77,
    histogram=times((2 * MS, 9_900), (9 * MS, 100)), late=times((MS, 10_000)),
    intervals=[500] * 20, last_ns=10_990 * MS, timer_ns=30, cpu_seconds=0.5, ring_full_seconds=0.0,
)  # fmt: skip


def load(**changes: object) -> Load:
    return Load([msgspec.structs.replace(REPORT, **changes)], climb(1000, 1000, 1000, 990))


def test_a_load_is_evidence_that_may_be_believed() -> None:
    measured = measurement(load(), PLAN, 1.0, (77, 77))
    result = outcome.result("load/uniform", "What.", {}, measured)
    assert (result.label, result.reasons) == (Label.SOUND, [])
    assert result.latency is not None
    assert result.latency.p50_ns == pytest.approx(2 * MS, rel=1e-3)
    assert result.per_second == 1000.0
    assert measured.bytes_each == 200
    assert measured.facts["events_a_group"] == pytest.approx(50)


def test_intervals_go_on_to_the_end_though_a_burst_is_over_before() -> None:
    measured = measurement(load(intervals=[500] * 19), PLAN, 1.0, None)
    assert measured.intervals == [*[500] * 19, 0]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, []),
        ({"operations": 9_890}, ["the target was not reached: 989/s"]),
        ({"last_ns": 12_500 * MS}, ["the target was not reached: 870/s"]),
        ({"due": 10_600}, ["100 events were due and never offered"]),
        ({"settled": 10_499}, ["1 events were offered and have no verdict"]),
        ({"rejected": 3}, ["3 events were rejected"]),
        ({"duplicates": 2}, ["2 events were called duplicates"]),
    ],
)
def test_faults_of_a_load_are_told(changes: dict[str, object], said: list[str]) -> None:
    found = load(**changes)
    faults = outcome.faults(found, measurement(found, PLAN, 1.0, None), 1000.0, None)
    assert len(faults) == len(said)
    assert all(fault.startswith(begin) for fault, begin in zip(faults, said, strict=True))


@pytest.mark.parametrize(
    ("found", "faults"),
    [
        ({"load/x/0": Found(10_500, 10_500, 77)}, 0),
        ({"load/x/0": Found(10_500, 10_500, None)}, 0),
        ({"load/x/0": Found(10_500, 10_500, 78)}, 1),
        ({"load/x/0": Found(10_499, 10_499, 77)}, 1),
        ({"load/x/0": Found(10_501, 10_500, 77)}, 1),
        ({"load/x/0": Found(10_500, 10_499, 77)}, 1),
        ({}, 1),
    ],
)
def test_each_durable_event_must_be_one_row(found: dict[str, Found], faults: int) -> None:
    rows: Rows = judged([REPORT], found)
    assert len(rows.faults) == faults


def test_without_a_checksum_none_is_claimed() -> None:
    assert judged([REPORT], {"load/x/0": Found(10_500, 10_500, None)}).sums is None
    assert judged([REPORT], {"load/x/0": Found(10_500, 10_500, 77)}).sums == (77, 77)


# --- as it is typed ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "words", "said"),
    [
        (cli.load, "--duration 5 --ramp 5", "nothing would be counted"),
        (cli.load, "--workers 65", "1<=x<=64"),
        (cli.load, "--profile odd", "'uniform', 'bursty', 'zipf', 'mixed'"),
        (cli.stress, "--from 2000 --to 1000", "there is no step"),
        (cli.stress, "--config nowhere.toml", "nowhere.toml"),
    ],
)
def test_what_cannot_be_measured_is_told_before_anything_starts(
    command: click.Command, words: str, said: str
) -> None:
    done = CliRunner().invoke(command, words.split())
    assert done.exit_code == Exit.USAGE
    assert said in done.output


def test_a_config_for_a_daemon_that_runs_is_no_use(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    done = CliRunner().invoke(cli.load, ["--config", str(file), "--socket", str(file)])
    assert done.exit_code == Exit.USAGE
    assert "--socket" in done.output


def test_seeds_are_by_chance_unless_given(tmp_path: Path) -> None:
    asked = Asked(
        workers=2, profile=Profile.MIXED, event_bytes=200, seed=None, config=None, socket=None,
        directory=tmp_path, out=tmp_path, key=None,
    )  # fmt: skip
    assert len({asked.shape().seed for _ in range(20)}) > 1
    assert {msgspec.structs.replace(asked, seed=5).shape().seed for _ in range(3)} == {5}


def test_a_load_is_written_as_evidence_that_can_be_verified(tmp_path: Path) -> None:
    result = outcome.result("load/uniform", "What.", {}, measurement(load(), PLAN, 1.0, (77, 77)))
    run = outcome.run("2026-01-02T03:04:05Z", tmp_path, {"mode": "load"}, [result])
    file, page = outcome.write(tmp_path / "out", "load", run, None)
    assert evidence.verify(file.read_bytes()).run == run
    assert file.name == "load-20260102T030405Z.json"
    assert "load/uniform" in page.read_text()
