"""`certeus pipe --follow` and a real daemon: files that grow, are rotated, cut, and go away."""

import gzip
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from certeusd.exits import Exit
from support import piping
from support.daemon import Daemon, running
from support.waiting import wait_until

pytestmark = pytest.mark.integration

AWAY = '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n'


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running(AWAY) as made:
        yield made


class Followed(NamedTuple):
    """A log file of a test, and the options by which it is followed."""

    daemon: Daemon
    log: Path
    state: Path
    source: str

    @property
    def options(self) -> tuple[str, ...]:
        return ("--follow", str(self.log), "--state", str(self.state), "--source", self.source)

    def write(self, text: str, to: str = "") -> None:
        with self.log.with_name(self.log.name + to).open("a") as file:
            file.write(text)

    def lines(self) -> list[object]:
        return piping.lines(self.daemon, self.source)

    def has(self, *lines: str) -> None:
        wait_until(f"lines {lines}", lambda: self.lines() == list(lines))

    def once(self, *more: str, code: int = 0) -> "subprocess.CompletedProcess[bytes]":
        return self.daemon.certeus("pipe", *self.options, "--once", *more, code=code)


@pytest.fixture
def followed(daemon: Daemon, tmp_path: Path, request: pytest.FixtureRequest) -> Followed:
    return Followed(daemon, tmp_path / "app.log", tmp_path / "kept" / "state", request.node.name)


def test_a_file_is_waited_for_and_a_half_line_for_its_end(followed: Followed) -> None:
    with piping.pipe(followed.daemon, *followed.options) as process:
        assert process.stderr is not None
        assert b"is not there yet; waiting for it" in process.stderr.readline()
        followed.write("one\ntw")
        followed.has("one")
        followed.write("o\nth")
        followed.has("one", "two")
        process.terminate()
        assert process.wait(30) == 0
    followed.write("ree\n")
    followed.once()
    followed.has("one", "two", "three")
    kept = json.loads(followed.state.read_bytes())
    assert kept["clean"] is True
    assert kept["generations"][-1]["position"] == followed.log.stat().st_size


def test_a_rotated_file_is_read_to_its_end_also_when_its_writer_comes_late(
    followed: Followed,
) -> None:
    followed.write("1\n")
    with piping.pipe(followed.daemon, *followed.options):
        followed.has("1")
        piping.rotate(followed.log)
        followed.write("2\n", ".1")
        followed.write("3\n")
        followed.has("1", "2", "3")
        followed.write("late\n", ".1")
        followed.has("1", "2", "3", "late")
        piping.rotate(followed.log)
        followed.write("later\n", ".2")
        followed.write("4\n")
        wait_until("all", lambda: len(followed.lines()) == 6)
        assert sorted(map(str, followed.lines()[4:])) == ["4", "later"]
    assert json.loads(followed.once("--json").stdout)["lost"] == 0
    assert len(followed.lines()) == 6


@pytest.mark.parametrize("dated", [False, True])
def test_rotations_while_nobody_followed_are_made_up_for_in_order(
    dated: bool, followed: Followed
) -> None:
    followed.write("older\n", "-20251231" if dated else ".1")
    followed.write("1\n")
    followed.once()
    followed.write("2\n")
    for number in range(3, 7):
        if dated:
            followed.log.rename(followed.log.with_name(f"app.log-2026010{number}"))
        else:
            piping.rotate(followed.log)
        followed.write(f"{number}\n")
    followed.write("no log\n", ".bak")
    followed.once()
    followed.once()
    assert followed.lines() == ["1", "2", "3", "4", "5", "6"]


def test_lines_that_are_offered_again_are_duplicates(followed: Followed, tmp_path: Path) -> None:
    followed.write("1\n2\n")
    followed.once()
    shutil.copy(followed.state, tmp_path / "before")
    followed.write("3\n4\n")
    piping.rotate(followed.log)
    followed.write("5\n")
    first = json.loads(followed.once("--json").stdout)
    assert (first["appended"], first["duplicates"]) == (3, 0)
    # As a kill would leave it before the position was written, but for the file of the "5".
    shutil.copy(tmp_path / "before", followed.state)
    followed.log.unlink()
    again = json.loads(followed.once("--json").stdout)
    assert (again["appended"], again["duplicates"]) == (0, 2)
    assert followed.lines() == ["1", "2", "3", "4", "5"]


def test_another_line_where_one_was_offered_before_is_another_event(
    followed: Followed, tmp_path: Path
) -> None:
    head = "x" * 2000
    followed.write(f"{head}\n")
    followed.once()
    shutil.copy(followed.state, tmp_path / "before")
    followed.write("kept\ngone\n")
    followed.once()
    shutil.copy(tmp_path / "before", followed.state)
    os.truncate(followed.log, 2006)
    followed.write("new\n")
    followed.once()
    assert followed.lines() == [head, "kept", "gone", "new"]


def test_the_copy_of_copytruncate_goes_on_where_the_original_was(followed: Followed) -> None:
    followed.write("".join(f"{n:040}\n" for n in range(5)))
    with piping.pipe(followed.daemon, *followed.options):
        followed.has(*(f"{n:040}" for n in range(5)))
    followed.write("not read yet\n")
    shutil.copy(followed.log, followed.log.with_name("app.log.1"))
    os.truncate(followed.log, 0)
    followed.write("new\n")
    followed.once()
    assert followed.lines()[5:] == ["not read yet", "new"]
    with piping.pipe(followed.daemon, *followed.options):
        followed.write("newer\n")
        wait_until("newer", lambda: followed.lines()[7:] == ["newer"])
        shutil.copy(followed.log, followed.log.with_name("app.log.1"))
        os.truncate(followed.log, 0)
        # As long as it was, and other content.
        followed.write("newew\n")
        followed.write("newest\n")
        wait_until("newest", lambda: followed.lines()[8:] == ["newew", "newest"])


def test_what_rotation_took_away_is_told_loudly(followed: Followed) -> None:
    followed.write("1\n")
    followed.once()
    with gzip.open(followed.log.with_name("app.log.1.gz"), "wb") as packed:
        packed.write(followed.log.read_bytes() + b"not read\n")
    followed.log.unlink()
    followed.write("2, and nothing that was there before\n")
    done = followed.once(code=1)
    assert b"LINES MAY BE MISSING: the rest of" in done.stderr
    assert b"after byte 2 is not there: it may be in app.log.1.gz" in done.stderr
    assert followed.lines() == ["1", "2, and nothing that was there before"]
    followed.once()


def test_what_was_read_out_before_it_went_away_is_no_loss(followed: Followed) -> None:
    followed.write("1\n")
    followed.once()
    piping.rotate(followed.log)
    followed.write("2\n")
    followed.once()
    followed.log.with_name("app.log.1").unlink()
    followed.write("3\n")
    followed.once()
    assert followed.lines() == ["1", "2", "3"]


@pytest.mark.parametrize("kind", ["directory", "FIFO"])
def test_what_is_no_file_is_told(kind: str, followed: Followed) -> None:
    make = os.mkdir if kind == "directory" else os.mkfifo
    make(followed.log)
    assert f"it is a {kind}".encode() in followed.once(code=1).stderr
    followed.log.rmdir() if kind == "directory" else followed.log.unlink()
    followed.write("1\n")
    with piping.pipe(followed.daemon, *followed.options) as process:
        followed.has("1")
        piping.rotate(followed.log)
        followed.write("2\n", ".1")
        make(followed.log)
        code, _, err = piping.ended(process)
    assert code == Exit.FAILED
    assert f"it is a {kind}" in err
    assert followed.lines() == ["1", "2"]


def test_a_second_pipe_of_a_file_is_told_who_has_it(followed: Followed) -> None:
    with piping.pipe(followed.daemon, *followed.options) as process:
        followed.write("1\n")
        followed.has("1")
        done = followed.once(code=Exit.TRY_AGAIN)
    assert f"in use by pid {process.pid}".encode() in done.stderr


def test_another_manner_is_refused_after_an_unclean_end_only(followed: Followed) -> None:
    followed.write("1\n")
    with piping.pipe(followed.daemon, *followed.options) as process:
        followed.has("1")
        process.kill()
    done = followed.once("--type", "other", code=Exit.CONFIGURATION)
    assert b"known only with --type line --source " + followed.source.encode() in done.stderr
    followed.once()
    followed.write("2\n")
    followed.once("--type", "other")
    assert [one["type"] for one in piping.events(followed.daemon, followed.source)] == [
        "line",
        "other",
    ]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--type", ""), ("--type", "x" * 256), ("--type", "a\tb"), ("--type", "\ufdd0"),
        ("--subject", ""), ("--subject", "ä" * 513), ("--subject", "\U0001fffe"),
    ],
)  # fmt: skip
def test_attributes_that_no_line_may_have_are_refused_before_a_line_is_read(
    option: str, value: str, followed: Followed
) -> None:
    followed.write("1\n")
    done = followed.once(option, value, code=Exit.USAGE)
    assert f"Error: {option} has ".encode() in done.stderr
    assert not followed.state.exists()
    followed.once("--type", "x" * 255, "--subject", "ä" * 512)
    assert followed.lines() == ["1"]


def test_nothing_offered_is_lost_when_pipe_and_daemon_die_together(tmp_path: Path) -> None:
    with running(AWAY) as daemon:
        followed = Followed(daemon, tmp_path / "app.log", tmp_path / "state", "both")
        followed.write("1\n")
        with piping.pipe(daemon, *followed.options) as process:
            followed.has("1")
            daemon.kill("log", signal.SIGSTOP)
            before = followed.state.read_bytes()
            followed.write("2\n3\n")
            # What the file begins with is kept before it is offered.
            wait_until("offer", lambda: followed.state.read_bytes() != before)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(1.0)
            process.kill()
            daemon.kill("all")
        daemon.start()
        followed.once()
        assert followed.lines() == ["1", "2", "3"]


def test_what_cannot_be_settled_in_time_comes_again_and_is_there_once(tmp_path: Path) -> None:
    with running(AWAY) as daemon:
        followed = Followed(daemon, tmp_path / "app.log", tmp_path / "state", "late")
        followed.write("1\n")
        with piping.pipe(daemon, *followed.options) as process:
            followed.has("1")
            held = daemon.kill("log", signal.SIGSTOP)
            before = followed.state.read_bytes()
            followed.write("2\n3\n")
            wait_until("offer", lambda: followed.state.read_bytes() != before)
            process.terminate()
            code, _, err = piping.ended(process)
            for pid in held:
                os.kill(pid, signal.SIGCONT)
        assert code == Exit.TRY_AGAIN
        assert "cannot settle the last 2 lines in time; start it again" in err
        again = json.loads(followed.once("--json").stdout)
        assert (again["appended"] + again["duplicates"], again["rejected"]) == (2, 0)
        assert followed.lines() == ["1", "2", "3"]


def test_a_dedup_window_that_has_moved_on_is_told_after_an_unclean_end(tmp_path: Path) -> None:
    with running(AWAY + "[dedup]\nkeys = 1000\n") as daemon:
        followed = Followed(daemon, tmp_path / "app.log", tmp_path / "state", "window")
        followed.write("1\n2\n")
        with piping.pipe(daemon, *followed.options) as process:
            followed.has("1", "2")
            wait_until("seq", lambda: json.loads(followed.state.read_bytes())["seq"] == 2)
            process.kill()
        kept = followed.state.read_bytes()
        assert followed.once().stderr == b""
        flood = b"".join(b'{"id": %d}\n' % number for number in range(3000))
        daemon.certeus("append", "--id-field", "id", stdin=flood)
        assert followed.once().stderr == b"", "it ended cleanly"
        followed.state.write_bytes(kept)
        assert b"after the last line that is known to be there (2)" in followed.once().stderr


def test_several_files_are_followed_by_one(daemon: Daemon, tmp_path: Path) -> None:
    names = [tmp_path / "a.log", tmp_path / "b.log"]
    for name in names:
        name.write_text(f"{name.stem}\nbad \0 line\n")
    options = [word for name in names for word in ("--follow", str(name))]
    own = {**daemon.env, "XDG_STATE_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        piping.command(daemon, *options, "--once", "--source", "several"),
        capture_output=True, env=own, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert piping.lines(daemon, "several") == ["a", "b"]
    for name in names:
        assert f"{name} byte 2: nul-character".encode() in done.stderr
    kept = sorted(path.name for path in (tmp_path / "home" / "certeus" / "pipe").glob("*.json"))
    assert [name.partition("-")[0] for name in kept] == ["a.log", "b.log"]


def test_a_position_file_that_is_none_is_told(followed: Followed) -> None:
    followed.write("1\n")
    followed.state.parent.mkdir()
    followed.state.write_text("{}")
    done = followed.once(code=Exit.CONFIGURATION)
    assert b"it is no position file" in done.stderr


def test_a_reader_of_stderr_that_went_away_ends_nothing(followed: Followed) -> None:
    with piping.pipe(followed.daemon, *followed.options) as process:
        assert process.stderr is not None
        assert b"waiting for it" in process.stderr.readline()
        process.stderr.close()
        followed.write("1\nbad \0 line\n2\n")
        followed.has("1", "2")
        followed.write("3\n")
        followed.has("1", "2", "3")
        process.terminate()
        process.wait(30)
        process.stderr = None
