"""What `make run` and the benchmarks rest on, without a daemon."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import inputs
from certeus_bench import harness
from certeus_bench.rows import make_rows

CONTROL_DATA = """\
Package: alpha
Version: 1.0
Description: first line
 second line
 .

Package: beta
Architecture: amd64

"""


def no_records() -> Iterator[inputs.Record]:
    yield from ()


def test_package_records_keep_folded_lines() -> None:
    parsed = list(inputs.stanzas(CONTROL_DATA.splitlines(keepends=True)))
    assert parsed == [
        {"Package": "alpha", "Version": "1.0", "Description": "first line\nsecond line\n."},
        {"Package": "beta", "Architecture": "amd64"},
    ]


def test_machine_with_few_records_gives_the_index_again_under_other_ids(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def packages() -> Iterator[inputs.Record]:
        for number in range(3):
            yield inputs.Record("package", b"{}", id=f"p{number}")

    said: list[str] = []
    monkeypatch.setattr(inputs, "EVENTS_MIN", 7)
    monkeypatch.setattr(inputs, "of_journal", no_records)
    monkeypatch.setattr(inputs, "of_logs", no_records)
    monkeypatch.setattr(inputs, "of_packages", packages)
    ids = [record.id for record in inputs.of_machine("run", said.append)]
    assert len(ids) == 9
    assert len(set(ids)) == 9
    assert sum("under other ids" in sentence for sentence in said) == 2


def test_machine_without_any_index_ends_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    for name in ("of_journal", "of_logs", "of_packages"):
        monkeypatch.setattr(inputs, name, no_records)
    assert list(inputs.of_machine("run", said.append)) == []
    assert "no package index" in said[0]


def test_lines_of_a_text_file_become_json_whatever_their_bytes(tmp_path: Path) -> None:
    path = tmp_path / "some.log"
    path.write_bytes(b'plain\n\n\xff quoted "text"\r\n')
    texts = [json.loads(record.data) for record in inputs.of_file(path)]
    assert [(text["line"], text["text"]) for text in texts] == [
        (1, "plain"),
        (3, '\N{REPLACEMENT CHARACTER} quoted "text"'),
    ]


def test_lines_of_a_json_file_are_taken_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "some.ndjson"
    path.write_bytes(b'{"b":1.0,"a":1e2}\nnot json\n')
    assert [record.data for record in inputs.of_file(path)] == [b'{"b":1.0,"a":1e2}', b"not json"]


@pytest.mark.parametrize("event_bytes", [64, 150, 1024, 16384])
def test_load_rows_are_different_json_of_the_size_that_was_asked_for(event_bytes: int) -> None:
    rows = make_rows(event_bytes, seed=3)
    assert {len(row) for row in rows} == {event_bytes}
    assert len(set(rows)) == len(rows)
    for row in rows[::97]:
        json.loads(row)


def test_home_that_the_database_user_cannot_enter_is_replaced_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def root() -> int:
        return 0

    monkeypatch.setattr("os.geteuid", root)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    home, notice = harness.home_for(closed / "var")
    try:
        assert home.parent == Path("/var/tmp")
        assert harness.blocked_for_postgres(home) is None
        assert notice is not None
        assert str(home) in notice
        assert not (closed / "var").exists()
    finally:
        home.rmdir()


def test_log_line_of_the_daemon_is_told_to_a_human() -> None:
    line = '{"child": "log", "code": -9, "event": "child_died", "role": "supervisor",'
    line += ' "level": "warning", "timestamp": "2026-01-02T03:04:05Z"}'
    told = "2026-01-02T03:04:05Z warning supervisor child_died child=log code=-9"
    assert harness.readable(line) == told
    assert harness.readable("certeusd: cannot use /x") == "certeusd: cannot use /x"
    assert harness.readable("[1]") == "[1]"
    assert harness.ending(-9) == "was killed by SIGKILL"
    assert harness.ending(75) == "ended with 75"


def test_home_too_deep_for_a_socket_is_replaced_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def elsewhere(wanted: Path) -> Path:
        return tmp_path

    def open_to_all(directory: Path) -> None:
        return None

    monkeypatch.setattr("certeus_bench.harness.home_elsewhere", elsewhere)
    monkeypatch.setattr("certeus_bench.harness.blocked_for_postgres", open_to_all)
    deep = tmp_path / ("x" * 100) / "var"
    home, notice = harness.home_for(deep)
    assert home == tmp_path
    assert notice == f"{deep} is too long for a socket's path: using {tmp_path}"
    assert not deep.exists()


def test_home_elsewhere_is_found_again_and_never_shared(tmp_path: Path) -> None:
    first = harness.home_elsewhere(tmp_path / "var", tmp_path)
    assert harness.home_elsewhere(tmp_path / "var", tmp_path) == first
    assert harness.home_elsewhere(tmp_path / "other", tmp_path) != first
    first.chmod(0o777)
    assert harness.home_elsewhere(tmp_path / "var", tmp_path) != first
    first.rmdir()
    first.symlink_to(tmp_path)
    assert harness.home_elsewhere(tmp_path / "var", tmp_path) != first


def test_home_is_the_one_asked_for_when_nothing_is_in_its_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def user() -> int:
        return 1000

    monkeypatch.setattr("os.geteuid", user)
    assert harness.home_for(tmp_path / "var") == (tmp_path / "var", None)
    assert (tmp_path / "var").is_dir()
