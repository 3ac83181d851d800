"""The command line: what it understands, and how it ends."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from certeusd import __version__
from certeusd.__main__ import check_identity
from certeusd._native import SegmentBuilder
from certeusd.cli.append import Lines, chunks
from certeusd.cli.appending import Refused
from certeusd.cli.main import SECTIONS, VERBS, command
from certeusd.exits import Exit, ExitError
from certeusd.paths import Paths, check_socket_path, client_paths, daemon_paths


def certeus(*arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    program = [sys.executable, "-P", "-m", "certeusd.cli.main", *arguments]
    return subprocess.run(program, input=stdin, capture_output=True, text=True, check=False)


def certeusd(*arguments: str) -> "subprocess.CompletedProcess[str]":
    program = [sys.executable, "-P", "-m", "certeusd", *arguments]
    return subprocess.run(program, capture_output=True, text=True, check=False)


def test_every_verb_is_there_and_has_help() -> None:
    runner = CliRunner()
    listed = runner.invoke(command, ["--help"]).output
    for verb in VERBS:
        assert verb in listed
        answer = runner.invoke(command, [verb, "--help"])
        assert answer.exit_code == 0, verb


def test_every_verb_stands_in_one_section_of_the_help() -> None:
    named = [verb for verbs in SECTIONS.values() for verb in verbs]
    assert sorted(named) == sorted(VERBS), "put it into SECTIONS of certeusd/cli/main.py"


def leaves(group: click.Group = command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every verb and subcommand that does something of its own."""
    for name in group.list_commands(click.Context(group)):
        one = group.get_command(click.Context(group), name)
        if not isinstance(one, click.Group) or one.invoke_without_command:
            yield (*path, name)
        if isinstance(one, click.Group):
            yield from leaves(one, (*path, name))


@pytest.mark.parametrize("verb", list(leaves()), ids=" ".join)
def test_every_verb_takes_json_both_ways(verb: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(command, [*verb, "--help"]).output
    assert "--json" in shown
    assert "-o [text|json]" in shown


def test_version_imports_little() -> None:
    looking = "import sys; sys.argv[1:] = ['--version']; from certeusd.cli.main import main\n"
    looking += "try: main()\nexcept SystemExit: pass\nprint(sorted(sys.modules), file=sys.stderr)"
    answer = subprocess.run(
        [sys.executable, "-P", "-c", looking], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == f"certeus, version {__version__}"
    for heavy in ("rich", "aiohttp", "numpy", "msgspec", "asyncio", "structlog", "psutil"):
        assert f"'{heavy}'" not in answer.stderr, heavy


@pytest.mark.parametrize(
    "verb",
    [["status"], ["workers"], ["drain"], ["dsn"], ["wait", "--ready"], ["top"], ["producers"]],
)
def test_daemon_that_does_not_answer_is_69(tmp_path: Path, verb: list[str]) -> None:
    answer = certeus("--runtime-dir", str(tmp_path), *verb)
    assert answer.returncode == Exit.UNREACHABLE
    assert str(tmp_path / "control.sock") in answer.stderr


def test_wrong_usage_is_2(tmp_path: Path) -> None:
    assert certeus("stauts").returncode == Exit.USAGE
    assert certeus("wait").returncode == Exit.USAGE
    assert certeus("append", "--text", "--id-field", "x").returncode == Exit.USAGE
    assert certeusd("--nonsense").returncode == Exit.USAGE


def test_check_validates_and_exits_78(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[log]\nlinger_us = 5\n")
    good = certeusd("--config", str(file), "check")
    assert (good.returncode, good.stderr) == (0, "")
    assert str(file) in good.stdout
    file.write_text("[log]\nlinger_s = 5\n")
    bad = certeusd("--config", str(file), "check")
    assert bad.returncode == Exit.CONFIGURATION
    assert bad.stderr == f"certeusd: {file}: unknown key log.linger_s; nearest: log.linger_us\n"
    served = certeusd("--config", str(file), "--state-dir", str(tmp_path))
    assert served.returncode == Exit.CONFIGURATION


def test_path_too_long_for_a_socket_is_78(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    answer = certeusd("--state-dir", str(tmp_path), "--runtime-dir", str(deep))
    assert answer.returncode == Exit.CONFIGURATION
    assert "AF_UNIX carries 107" in answer.stderr
    check_socket_path(Path("/" + "x" * 106))
    with pytest.raises(ExitError):
        check_socket_path(Path("/" + "x" * 107))


def test_user_namespace_that_renames_is_78() -> None:
    check_identity("         0          0 4294967295\n")
    for other in ("0 1000 1\n", "0 0 4294967295\n5 5 1\n", "0 1000 65536\n"):
        with pytest.raises(ExitError) as error:
            check_identity(other)
        assert error.value.code is Exit.CONFIGURATION


def test_ordinary_user_gets_xdg_directories(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("certeusd.paths._system_is_usable", lambda: False)
    environ = {"XDG_RUNTIME_DIR": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "s")}
    paths = Paths(tmp_path / "s" / "certeus", tmp_path / "certeus")
    assert daemon_paths(None, None, environ) == paths
    assert client_paths(None, None, environ) == paths
    assert daemon_paths("/a", "/b", environ) == Paths(Path("/a"), Path("/b"))


def test_verb_that_is_not_there_names_the_nearest() -> None:
    answer = certeus("appendd")
    assert answer.returncode == Exit.USAGE
    assert "'append'" in answer.stderr


def test_nobody_there_is_69_in_words_for_every_verb_that_asks(tmp_path: Path) -> None:
    for verb in (["status"], ["append"], ["wait", "--durable"], ["workers"], ["dsn"]):
        answer = certeus("--runtime-dir", str(tmp_path), *verb)
        assert answer.returncode == Exit.UNREACHABLE, verb
        assert "No such file or directory" in answer.stderr
        assert "with this --runtime-dir?" in answer.stderr
        assert "Errno" not in answer.stderr


def test_client_needs_no_directory_for_sockets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("certeusd.paths._system_is_usable", lambda: False)
    environ = {"XDG_RUNTIME_DIR": str(tmp_path / "not-there")}
    expected = Paths(tmp_path, tmp_path / "not-there" / "certeus")
    assert client_paths(str(tmp_path), None, environ) == expected
    with pytest.raises(ExitError, match="set XDG_RUNTIME_DIR"):
        daemon_paths(str(tmp_path), None, environ)


def test_log_that_is_not_there_is_an_error_of_every_verb_that_reads_it(tmp_path: Path) -> None:
    for verb in (["tail"], ["log", "ls"], ["log", "check"]):
        answer = certeus("--state-dir", str(tmp_path), *verb)
        assert answer.returncode == Exit.FAILED, verb
        assert answer.stderr.endswith("No such file or directory; give --state-dir\n")


def test_line_is_its_own_bytes() -> None:
    plain = Lines(text=False, id_field=None, subject_field=None)
    assert plain.row(b'{"b": 1.0,  "a":1e2}') == b'{"b": 1.0,  "a":1e2}'
    assert Lines(True, None, None).row("zw\u00f6lf".encode()) == "zw\u00f6lf"


@pytest.mark.parametrize(
    ("text", "field", "line", "word"),
    [
        (False, None, b"[1]", "not-an-object"),
        (False, None, b"17", "not-an-object"),
        (True, None, b"\xff", "invalid-utf8"),
        (False, "id", b'{"id": 1', "invalid-json"),
        (False, "id", b'{"x": 1}', "no-field-id"),
        (False, "id", b'{"id": null}', "no-field-id"),
        (False, "id", b'{"id": [1]}', "field-id-is-no-text"),
        (False, "id", b'{"id": true}', "field-id-is-no-text"),
    ],
)
def test_line_that_cannot_be_an_event_is_refused_by_a_word(
    text: bool, field: str | None, line: bytes, word: str
) -> None:
    with pytest.raises(Refused, match=f"^{word}$"):
        Lines(text, field, None).row(line)


def test_blank_lines_are_nothing_between_objects_and_text_in_text() -> None:
    assert Lines(False, None, None).is_blank(b" \t")
    assert not Lines(True, None, None).is_blank(b"")


def test_chunks_are_whole_lines_however_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certeusd.cli.append.READ_BYTES", 3)
    read, write = os.pipe()
    os.write(write, b"ab\r\ncdefg\n\nlast")
    os.close(write)
    assert [line for cut, _ in chunks(read) for line in cut.lines] == [
        b"ab",
        b"cdefg",
        b"",
        b"last",
    ]
    os.close(read)


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    """A log of two segments and 25 events, made by the tool that tests make segments with."""
    for inner in ("log", "keys"):
        (tmp_path / inner).mkdir()
    key = bytes(32)
    (tmp_path / "keys" / "log.key").write_bytes(key)
    builder = SegmentBuilder(tmp_path / "log", bytes(16), key)
    ticket = 0
    for segment in range(2):
        builder.segment()
        builder.producer(1, "default", "made")
        for group in range(5):
            for _ in range(5 if segment else 0):
                ticket += 1
                builder.record(1, ticket, "line", b'{"n": %d}' % ticket)
            if segment:
                builder.commit(1_700_000_000_000_000_000 + group)
    return tmp_path


def test_offline_tail_prints_the_last_events(state_dir: Path) -> None:
    places = ("--state-dir", str(state_dir), "--runtime-dir", str(state_dir))
    answer = certeus(*places, "tail", "-n", "3")
    assert answer.returncode == 0, answer.stderr
    shown = [json.loads(line) for line in answer.stdout.splitlines()]
    assert [(event["seq"], event["data"]["n"]) for event in shown] == [(23, 23), (24, 24), (25, 25)]
    assert certeus(*places, "tail", "-n", "0").stdout == ""
    assert len(certeus(*places, "tail", "-n", "999").stdout.splitlines()) == 25
    assert certeus(*places, "tail", "-f").returncode == Exit.UNREACHABLE


def test_tail_filters_and_begins_behind_a_number(state_dir: Path) -> None:
    places = ("--state-dir", str(state_dir), "--runtime-dir", str(state_dir))

    def seqs(*options: str) -> list[int]:
        answer = certeus(*places, "tail", *options)
        assert answer.returncode == 0, answer.stderr
        return [json.loads(line)["seq"] for line in answer.stdout.splitlines()]

    assert seqs("--after-seq", "22") == [23, 24, 25]
    assert seqs("--after-seq", "25") == []
    assert seqs("--type", "li*", "-n", "2") == [24, 25]
    assert seqs("--type", "li") == []
    assert seqs("--source", "made", "-n", "1") == [25]
    assert seqs("--source", "other") == []
    both = certeus(*places, "tail", "-n", "1", "--after-seq", "2")
    assert both.returncode == Exit.USAGE
    assert "exclude each other" in both.stderr


def test_tail_looks_back_as_far_as_the_last_events_of_a_rare_type_are(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    builder = SegmentBuilder(tmp_path / "log", bytes(16), bytes(32))
    builder.segment()
    builder.producer(1, "default", "made")
    for ticket in range(1, 12_001):
        builder.record(1, ticket, "rare" if ticket in {3, 4, 9000} else "line", b"1")
        if ticket % 100 == 0:
            builder.commit(1_700_000_000_000_000_000)
    places = ("--state-dir", str(tmp_path), "--runtime-dir", str(tmp_path))
    for count, expected in (("1", [9000]), ("2", [4, 9000]), ("9", [3, 4, 9000])):
        answer = certeus(*places, "tail", "--type", "rare", "-n", count)
        assert [json.loads(line)["seq"] for line in answer.stdout.splitlines()] == expected


def test_log_check_exits_1_when_a_byte_has_changed(state_dir: Path) -> None:
    places = ("--state-dir", str(state_dir))
    good = certeus(*places, "log", "check", "--json")
    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)["records"] == 25
    listed = json.loads(certeus(*places, "log", "ls", "-o", "json").stdout)["segments"]
    assert [one["records"] for one in listed] == [0, 25]
    segment = max((state_dir / "log").glob("*.log"))
    content = bytearray(segment.read_bytes())
    content[content.index(b'{"n": 7}') + 6] = ord("8")
    segment.write_bytes(content)
    bad = certeus(*places, "log", "check", "--json")
    assert bad.returncode == Exit.FAILED
    assert json.loads(bad.stdout)["findings"]
    assert "DAMAGED" in certeus(*places, "log", "check").stdout


def test_log_that_is_not_there_is_told(tmp_path: Path) -> None:
    answer = certeus("--state-dir", str(tmp_path), "log", "ls")
    assert answer.returncode == Exit.FAILED
    assert "give --state-dir" in answer.stderr


def test_processor_time_of_version_is_reported() -> None:
    """No bar here (speed is the benchmarks'); it shows where to look when imports creep in."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert certeus("--version").returncode == 0
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"certeus --version took {used_s * 1000:.0f} ms of CPU")
