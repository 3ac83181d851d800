"""`certeus pipe` of standard input, and a real daemon: back-pressure, signals, hostile input."""

import array
import fcntl
import json
import os
import select
import signal
import subprocess
import termios
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from certeusd.exits import Exit
from support import piping
from support.daemon import Daemon, running, scratch_dir
from support.waiting import wait_until

pytestmark = pytest.mark.integration

AWAY = '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n'
RING_BYTES = 4 << 20
MEMORY_BYTES_MAX = 160 << 20


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running(AWAY) as made:
        yield made


def peak_bytes(pid: int) -> int:
    """The most memory that a process has had."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) * 1024


def stopped(daemon: Daemon) -> list[int]:
    return daemon.kill("log", signal.SIGSTOP)


def wait_for(daemon: Daemon, source: str, *lines: str) -> None:
    wait_until(f"lines {lines}", lambda: piping.lines(daemon, source) == list(lines))


def test_each_line_of_standard_input_is_one_event(daemon: Daemon) -> None:
    done = daemon.certeus(
        "pipe", "--source", "t/lines", "--type", "t", "--subject", "s", "--json",
        stdin="eins\n\nzwölf\r\nlast".encode(),
    )  # fmt: skip
    summary = json.loads(done.stdout)
    assert (summary["appended"], summary["rejected"]) == (4, 0)
    found = piping.events(daemon, "t/lines")
    assert [one["data"] for one in found] == ["eins", "", "zwölf", "last"]
    assert {(one["type"], one["subject"]) for one in found} == {("t", "s")}
    assert summary["last_seq"] == found[-1]["seq"]
    assert done.stderr == b""


def test_a_line_is_durable_while_the_program_still_runs(daemon: Daemon) -> None:
    with piping.pipe(daemon, "--source", "t/live", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        for count in (1, 2):
            process.stdin.write(b"now\n")
            process.stdin.flush()
            wait_for(daemon, "t/live", *["now"] * count)


def test_hostile_lines_are_told_and_refused_and_the_rest_goes_on(daemon: Daemon) -> None:
    with piping.pipe(daemon, "--source", "t/hostile", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b"good\n\xff\xfe\nwith \0 in it\n" + bytes(range(128, 256)) + b"\n")
        for _ in range(100):
            process.stdin.write(b"x" * (1 << 20))
        process.stdin.write(b"\n" + b"y" * (300 << 10) + b"\n\x1b[31mred\nlast\n")
        process.stdin.flush()
        wait_until("last line", lambda: piping.lines(daemon, "t/hostile")[-1:] == ["last"])
        assert peak_bytes(process.pid) < MEMORY_BYTES_MAX
        code, out, err = piping.ended(process)
    assert code == Exit.FAILED
    assert piping.lines(daemon, "t/hostile") == ["good", "\x1b[31mred", "last"]
    # The daemon's refusals come when they come.
    *told, large = sorted(err.splitlines())
    assert told == [
        "certeus: line 2: invalid-utf8",
        "certeus: line 3: nul-character",
        "certeus: line 4: invalid-utf8",
        "certeus: line 5: line-too-long",
    ]
    assert large.startswith("certeus: line 6: cannot append: data has 307202 bytes")
    assert "3 appended, 5 rejected" in out


def test_json_lines_keep_their_bytes_and_what_is_none_is_refused(daemon: Daemon) -> None:
    done = daemon.certeus(
        "pipe", "--json-lines", "--source", "t/json", stdin=b'{"b": 1.0}\n\n[1]\n{"a"\n{}\n', code=1
    )
    assert piping.lines(daemon, "t/json") == [{"b": 1.0}, {}]
    assert b"line 3: not-an-object" in done.stderr
    assert b"line 4: invalid-json" in done.stderr


def test_many_refused_lines_are_counted_not_listed(daemon: Daemon) -> None:
    done = daemon.certeus("pipe", stdin=b"\xff\n" * 1000, code=1)
    told = done.stderr.decode().splitlines()
    assert len(told) == 21
    assert told[-1] == "certeus: and 980 more"


def test_while_the_log_stands_still_the_writer_waits_and_memory_is_bounded() -> None:
    with running(AWAY) as daemon:
        with piping.pipe(daemon, "--source", "t/full", stdin=subprocess.PIPE) as process:
            assert process.stdin is not None
            end = process.stdin.fileno()
            line = b"z" * 99 + b"\n"
            taken = os.write(end, line)
            wait_until("line", lambda: piping.lines(daemon, "t/full"))
            held = stopped(daemon)
            os.set_blocking(end, False)
            while select.select([], [end], [], 2.0)[1]:
                taken += os.write(end, line * 40)
                assert taken < 3 * RING_BYTES, "nobody made the writer wait"
            assert taken > RING_BYTES // 2
            assert peak_bytes(process.pid) < MEMORY_BYTES_MAX
            for pid in held:
                os.kill(pid, signal.SIGCONT)
            code, out, err = piping.ended(process)
        assert code == 0, err
        assert f"{taken // 100:,} appended" in out
        assert piping.lines(daemon, "t/full") == ["z" * 99] * (taken // 100)


def test_a_signal_ends_the_reading_and_what_was_read_is_durable(daemon: Daemon) -> None:
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        source = f"t/{signum.name}"
        with piping.pipe(daemon, "--source", source, stdin=subprocess.PIPE) as process:
            assert process.stdin is not None
            process.stdin.write(b"one\nhalf")
            process.stdin.flush()
            wait_for(daemon, source, "one")
            process.send_signal(signum)
            assert process.wait(30) == 0
            assert piping.lines(daemon, source) == ["one", "half"]


def test_a_second_signal_does_not_wait_and_says_what_is_in_doubt() -> None:
    with (
        running(AWAY) as daemon,
        piping.pipe(daemon, "--source", "t/doubt", stdin=subprocess.PIPE) as process,
    ):
        assert process.stdin is not None
        process.stdin.write(b"settled\n")
        process.stdin.flush()
        wait_until("line", lambda: piping.lines(daemon, "t/doubt"))
        held = stopped(daemon)
        process.stdin.write(b"two\nthree\n")
        process.stdin.flush()
        wait_until("read", lambda: unread(process) == 0)
        process.terminate()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.terminate()
        code, _, err = piping.ended(process)
        for pid in held:
            os.kill(pid, signal.SIGCONT)
    assert code == Exit.FAILED
    assert "cannot settle everything: lines 2 to 3 have no verdict" in err


def unread(process: "subprocess.Popen[bytes]") -> int:
    """How many bytes stand in a process's standard input, and whether it waits for more."""
    assert process.stdin is not None
    count = array.array("i", [0])
    fcntl.ioctl(process.stdin.fileno(), termios.FIONREAD, count)
    return count[0] or psutil.Process(process.pid).status() != psutil.STATUS_SLEEPING


def test_a_daemon_that_is_away_is_an_error_at_the_start_unless_it_is_to_be_waited_for() -> None:
    with scratch_dir() as root:
        daemon = Daemon(root, AWAY)
        try:
            done = daemon.certeus("pipe", stdin=b"a\n", code=Exit.UNREACHABLE)
            assert b"is certeusd running, and with this --runtime-dir?" in done.stderr
            with piping.pipe(daemon, "--wait", "--source", "w", stdin=subprocess.PIPE) as process:
                assert process.stdin is not None
                assert process.stderr is not None
                process.stdin.write(b"early\n")
                assert process.stderr.readline().startswith(b"certeus: waiting: cannot reach")
                daemon.start()
                code, _, err = piping.ended(process)
                assert code == 0, err
            assert piping.lines(daemon, "w") == ["early"]
        finally:
            daemon.clean_up()


def test_who_waits_for_a_daemon_ends_by_a_signal(tmp_path: Path) -> None:
    with piping.pipe(Daemon(tmp_path), "--wait") as process:
        assert process.stderr is not None
        assert process.stderr.readline()
        process.terminate()
        assert process.wait(30) == 0


def test_a_daemon_that_restarts_in_the_middle_is_no_error() -> None:
    with (
        running(AWAY) as daemon,
        piping.pipe(daemon, "--source", "t/restart", stdin=subprocess.PIPE) as process,
    ):
        assert process.stdin is not None
        process.stdin.write(b"before\n")
        process.stdin.flush()
        wait_until("line", lambda: piping.lines(daemon, "t/restart"))
        assert daemon.stop() == 0
        process.stdin.write(b"meanwhile\n")
        process.stdin.flush()
        daemon.start()
        code, _, err = piping.ended(process)
        assert (code, err) == (0, "")
        assert piping.lines(daemon, "t/restart") == ["before", "meanwhile"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--once",), b"--once and --state need --follow"),
        (("--follow", "a", "--follow", "./a"), b"names a file twice"),
        (("--follow", "a", "--follow", "b", "--state", "c"), b"--state is for one --follow"),
    ],
)
def test_options_that_do_not_go_together_are_told(
    daemon: Daemon, arguments: tuple[str, ...], words: bytes
) -> None:
    assert words in daemon.certeus("pipe", *arguments, code=Exit.USAGE).stderr


def test_standard_input_that_is_closed_is_told(daemon: Daemon) -> None:
    shell = ["sh", "-c", '"$@" <&-', "sh", *piping.command(daemon)]
    done = subprocess.run(shell, capture_output=True, env=daemon.env, check=False)
    assert (done.returncode, done.stdout) == (Exit.FAILED, b"")
    assert done.stderr.startswith(b"certeus: cannot read standard input: it is closed")
