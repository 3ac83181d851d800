"""`certeus-bench` as it is typed: what it prints, writes, and exits with."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from certeus_bench import cli, evidence, keys
from certeus_bench.results import Measurement, Run, Scope
from certeus_bench.scenario import AbsentError, Context, Scenario
from support.bench_results import SOUND, ambitious, latency, result, run

Type = Callable[..., tuple[int, str, str]]


def scenario(name: str, system: str, measure: Callable[[Context], Measurement]) -> Scenario:
    return Scenario(
        name=name, system=system, scope=Scope.DURABLE, what=f"What {name} does.", measure=measure
    )


def measured(_: Context) -> Measurement:
    return SOUND


def absent(_: Context) -> Measurement:
    raise AbsentError("no redis-server; apt-get install redis-server")


def failing(_: Context) -> Measurement:
    raise OSError("disk on fire")


SCENARIOS = (
    scenario("floor/fdatasync-4k", "floor", measured),
    scenario("durable/ack", "certeus", measured),
    scenario("durable/throughput", "Redis 7.0", absent),
)


@pytest.fixture(name="typed")
def type_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Type:
    """Runs the command in an empty directory; its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "OWN", SCENARIOS)

    def typed(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["certeus-bench", *map(str, words)])
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return typed


def written(directory: Path, suffix: str = ".json") -> Path:
    (file,) = directory.glob(f"run-*{suffix}")
    return file


def save(run: Run, file: Path) -> Path:
    file.write_bytes(evidence.encode(run, None))
    return file


def acks(directory: Path, name: str, p50_ns: int) -> Path:
    return save(run(result("durable/ack", latency(p50_ns, 3 * p50_ns))), directory / name)


def test_list_names_what_would_be_measured(typed: Type) -> None:
    code, out, _ = typed("run", "--list", "--only", "floor/*")
    assert code == 0
    assert "floor/fdatasync-4k" in out
    assert "What floor/fdatasync-4k does." in out
    assert "durable/ack" not in out


def test_pattern_that_fits_nothing_is_a_mistake_of_usage(typed: Type) -> None:
    code, _, err = typed("run", "--only", "nothing")
    assert code == 2
    assert "no scenario is named like nothing" in err


def test_run_writes_evidence_and_page_and_tells_of_what_is_absent(
    typed: Type, tmp_path: Path
) -> None:
    code, out, err = typed("run", "--seconds", "7", "--dir", "homes", "--out", "out")
    assert code == 0
    done = evidence.verify(written(tmp_path / "out").read_bytes()).run
    assert done.command == "certeus-bench run --seconds 7 --dir homes --out out"
    assert done.settings == {"mode": "quick", "warmup_seconds": 3.0, "seconds": 7.0}
    assert [one.name for one in done.results] == ["floor/fdatasync-4k", "durable/ack"]
    assert list(done.absent) == ["durable/throughput of Redis 7.0"]
    assert "apt-get install redis-server" in err
    assert "durable/ack" in out
    assert "1.00" in out  # the ratio of the ack to the floor, which are the same here
    assert f"wrote {written(Path('out'))}" in out
    assert f"wrote {written(Path('out'), '.html')}" in out


@pytest.mark.parametrize(
    ("words", "warmup", "seconds"),
    [((), 3.0, 10.0), (("--quick",), 3.0, 10.0), (("--full",), 30.0, 120.0)],
)
def test_modes_say_how_long_it_is_measured(
    typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...], warmup: float, seconds: float,
) -> None:  # fmt: skip
    def no_syncs(_: Path) -> dict[str, str | int | float]:
        return {}

    monkeypatch.setattr("certeus_bench.machine.pg_test_fsync", no_syncs)
    typed("run", *words, "--only", "floor/*", "--out", "out")
    settings = evidence.verify(written(tmp_path / "out").read_bytes()).run.settings
    assert (settings["warmup_seconds"], settings["seconds"]) == (warmup, seconds)


def test_strict_run_exits_1_if_a_gate_is_not_passed(typed: Type) -> None:
    assert typed("run", "--only", "durable/*")[0] == 0
    assert typed("run", "--only", "durable/*", "--strict")[0] == 1
    assert typed("run", "--only", "floor/*", "--strict")[0] == 0


def test_run_in_which_a_scenario_fails_exits_1_and_writes_the_rest(
    typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "OWN", (*SCENARIOS, scenario("ring/x", "certeus", failing)))
    code, _, err = typed("run", "--out", "out")
    assert code == 1
    assert "disk on fire" in err
    assert len(evidence.verify(written(tmp_path / "out").read_bytes()).run.results) == 2


def test_signed_run_is_valid_for_its_key_and_no_other(typed: Type, tmp_path: Path) -> None:
    assert typed("key", "mine")[0] == typed("key", "other")[0] == 0
    typed("run", "--only", "floor/*", "--out", "out", "--key", "mine")
    file = written(tmp_path / "out")
    assert typed("verify", file, "--public-key", "mine.pub")[0] == 0
    assert typed("verify", file, "--public-key", keys.load_public("mine.pub"))[0] == 0
    code, out, _ = typed("verify", file)
    assert code == 0
    assert "give --public-key" in out
    code, _, err = typed("verify", file, "--public-key", "other.pub")
    assert code == 1
    assert f"not by {keys.load_public('other.pub')}" in err


def test_changed_file_is_refused_by_every_verb(typed: Type, tmp_path: Path) -> None:
    file = acks(tmp_path, "run.json", 1_000_000)
    file.write_bytes(file.read_bytes().replace(b'"operations": 10000', b'"operations": 20000'))
    for words in (("verify",), ("gates",), ("report",), ("compare", file)):
        code, _, err = typed(*words, file)
        assert code == 1
        assert "durable/ack of certeus: per_second is 1000.0, the measurements give 2000.0" in err


def test_unsigned_file_is_told_and_needs_permission(typed: Type, tmp_path: Path) -> None:
    file = acks(tmp_path, "run.json", 1_000_000)
    code, out, _ = typed("verify", file)
    assert code == 1
    assert "unsigned" in out
    assert typed("verify", file, "--allow-unsigned")[0] == 0
    assert typed("verify", file, "--allow-unsigned", "--public-key", "00" * 32)[0] == 1


def test_gates_show_every_bar_and_exit_1_if_one_is_not_reached(typed: Type, tmp_path: Path) -> None:
    code, out, _ = typed("gates", save(run(*ambitious()), tmp_path / "all.json"))
    assert code == 0
    assert "21 of 21 bars reached" in out
    code, out, _ = typed("gates", save(run(*ambitious()[:-1]), tmp_path / "some.json"))
    assert code == 1
    assert "20 of 21 bars reached" in out
    assert "inproc/idle of certeus was not measured" in out


def test_comparison_exits_1_only_if_something_got_slower(typed: Type, tmp_path: Path) -> None:
    before, same, after = (
        acks(tmp_path, f"{p50_ns}.json", p50_ns) for p50_ns in (1_000_000, 1_010_000, 1_300_000)
    )
    assert typed("compare", before, same)[0] == 0
    assert typed("compare", after, before)[0] == 0
    code, out, _ = typed("compare", before, after)
    assert code == 1
    assert "+30.0 %" in out
    assert "one run a side" in out
    assert typed("compare", f"{before},{same}", after)[0] == 0
    words = ["--base", before, "--base", same, "--base", same, "--base", before]
    assert typed("compare", *words, "--new", after)[0] == 1


@pytest.mark.parametrize("words", [(), ("a",), ("a", "b", "c")])
def test_comparison_wants_two_sides(typed: Type, words: tuple[str, ...]) -> None:
    assert typed("compare", *words)[0] == 2


def test_file_that_is_not_there_is_told(typed: Type) -> None:
    code, _, err = typed("compare", "none.json", "none.json")
    assert code == 1
    assert "cannot read none.json" in err


def test_page_is_written_beside_the_file_or_where_it_is_wanted(typed: Type, tmp_path: Path) -> None:
    file = acks(tmp_path, "run.json", 1_000_000)
    assert typed("report", file)[1] == f"wrote {tmp_path / 'run.html'}\n"
    assert typed("report", file, "--out", "page.html")[1] == "wrote page.html\n"
    assert (tmp_path / "page.html").read_text() == (tmp_path / "run.html").read_text()


def test_key_is_made_once(typed: Type, tmp_path: Path) -> None:
    code, out, _ = typed("key", "mine")
    assert code == 0
    assert (tmp_path / "mine.pub").read_text().strip() in out
    code, _, err = typed("key", "mine")
    assert code == 1
    assert "cannot make key mine: File exists" in err
