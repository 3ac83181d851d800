"""What a process logs, and how it arrives: in the journal, in a file, in a pipe, on a terminal."""

import json
import os
import pty
import pwd
import re
import socket
import subprocess
import sys
import textwrap
import tty
import uuid
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certeusd import log_sinks
from certeusd.log_journal import Journal
from certeusd.log_sinks import Sink, Stream, ToJournal, as_json, prefixed
from support.as_user import as_user
from support.fake_journal import FakeJournal

NOBODY = pwd.getpwnam("nobody")
CHILD_SPAWNED_ID = "26092fd0c55351e889a8fb667a65e9cf"
PROLOGUE = """
import os, sys
from certeusd import logs, systemd, uncaught
systemd.JOURNAL_SOCKET = sys.argv[1]
"""


@pytest.fixture
def there(tmp_path: Path) -> Iterator[FakeJournal]:
    with FakeJournal(tmp_path / "journal") as end:
        yield end


def run(program: str, journal: Path, stderr: int, **environ: str) -> int:
    """Run a program with this standard error, and return its exit code."""
    code = PROLOGUE + textwrap.dedent(program)
    clean = {key: value for key, value in os.environ.items() if key != "JOURNAL_STREAM"}
    command = [sys.executable, "-c", code, str(journal)]
    done = subprocess.run(command, check=False, stderr=stderr, env=clean | environ, timeout=60)
    return done.returncode


def run_as_service(program: str, journal: Path) -> str:
    """Run a program as systemd does, and return what came by the journal's stream."""
    reader, writer = os.pipe()
    with open(reader, "rb") as stream:
        with open(writer, "wb") as end:
            at = os.fstat(end.fileno())
            run(program, journal, end.fileno(), JOURNAL_STREAM=f"{at.st_dev}:{at.st_ino}")
        return stream.read().decode()


def run_with_file(program: str, tmp_path: Path) -> list[dict[str, object]]:
    path = tmp_path / "stderr"
    with path.open("wb") as file:
        run(program, tmp_path / "none", file.fileno())
    return [json.loads(line) for line in path.read_text().splitlines()]


# --- the journal -----------------------------------------------------------------------------


def test_the_journal_gets_each_field_by_its_name(there: FakeJournal) -> None:
    program = """
    log = logs.configure("worker", 3)
    log.info("session_ended", reason="peer gone", count=4, slots=[1, 2], message="m", uid=None)
    """
    stream = run_as_service(program, there.path)
    (record,) = there.receive_all()
    assert record == {
        "MESSAGE": b'session_ended reason="peer gone" count=4 slots=[1, 2] message=m uid=null'
                   b" role=worker worker=3",
        "PRIORITY": b"6", "SYSLOG_IDENTIFIER": b"certeusd", "CERTEUS_EVENT": b"session_ended",
        "MESSAGE_ID": uuid.uuid5(log_sinks.MESSAGE_NAMESPACE, "session_ended").hex.encode(),
        "REASON": b"peer gone", "COUNT": b"4", "SLOTS": b"[1, 2]", "CERTEUS_MESSAGE": b"m",
        "UID": b"null", "ROLE": b"worker", "WORKER": b"3",
    }  # fmt: skip
    assert stream == ""


def test_every_level_has_its_priority_and_the_audit_passes_any_level(there: FakeJournal) -> None:
    program = """
    log = logs.configure("supervisor", level="debug")
    for level in ("debug", "info", "warning", "error", "critical"):
        getattr(log, level)("level_tried", level_tried=level)
    logs.set_level("error")
    log.warning("warning_silenced")
    logs.audit_logger().info("control_ordered")
    """
    run_as_service(program, there.path)
    records = there.receive_all()
    assert [(one["CERTEUS_EVENT"], one["PRIORITY"]) for one in records] == [
        (b"level_tried", b"7"), (b"level_tried", b"6"), (b"level_tried", b"4"),
        (b"level_tried", b"3"), (b"level_tried", b"2"), (b"control_ordered", b"6"),
    ]  # fmt: skip


def test_a_traceback_is_one_record(there: FakeJournal) -> None:
    program = """
    log = logs.configure("log")
    try:
        {}["none"]
    except KeyError:
        log.error("log_failed", cause="a\\nb", exc_info=True)
    """
    assert run_as_service(program, there.path) == ""
    (record,) = there.receive_all()
    first, *traceback = record["MESSAGE"].decode().splitlines()
    assert first == r'log_failed cause="a\nb" role=log'
    assert traceback[0] == "Traceback (most recent call last):"
    assert traceback[-1] == "KeyError: 'none'"
    assert record["EXCEPTION"].decode().splitlines() == traceback
    assert record["CAUSE"] == b"a\nb"


@pytest.mark.parametrize(
    ("harm", "event", "priority", "said"),
    [
        ("raise ValueError('bad')", b"process_failed", b"2", b"ValueError: bad"),
        ("import threading; thread = threading.Thread(target=lambda: 1 / 0, name='t');"
         "thread.start(); thread.join()", b"thread_failed", b"3", b"ZeroDivisionError"),
        ("type('Bad', (), {'__del__': lambda self: 1 / 0})()",
         b"exception_not_raised", b"3", b"ZeroDivisionError"),
        ("import warnings; warnings.simplefilter('always'); warnings.warn('old')",
         b"library_logged", b"4", b"UserWarning: old"),
        ("import asyncio; asyncio.new_event_loop().call_exception_handler("
         "{'message': 'lost', 'exception': OSError('gone')})",
         b"library_logged", b"3", b"OSError: gone"),
        ("import logging; logging.getLogger('x').log(35, '%d', 'no number')",
         b"library_logged", b"4", b"%d"),
    ],
)  # fmt: skip
def test_what_nobody_caught_is_one_record(
    there: FakeJournal, harm: str, event: bytes, priority: bytes, said: bytes
) -> None:
    program = f'uncaught.log_uncaught(logs.configure("flush"))\n{harm}\n'
    stream = run_as_service(program, there.path)
    (record,) = there.receive_all()
    assert (record["CERTEUS_EVENT"], record["PRIORITY"]) == (event, priority)
    assert (record["ROLE"], said in record["MESSAGE"]) == (b"flush", True)
    assert "Traceback" not in stream


def test_without_a_journal_its_stream_gets_lines_with_priorities(there: FakeJournal) -> None:
    there.vanish()
    program = """
    log = logs.configure("log")
    log.error("log_failed", cause="a\\nb", next="")
    log.info("log_unblocked")
    """
    stream = run_as_service(program, there.path)
    assert stream == '<3>log_failed cause="a\\nb" next="" role=log\n<6>log_unblocked role=log\n'


def test_a_full_journal_drops_lines_counts_them_and_says_so(there: FakeJournal) -> None:
    dropped = list[int]()
    with closing(Journal(str(there.path))) as journal:
        sink = Sink(ToJournal(journal, Nowhere()), lambda: dropped.append(1))
        sent = -3
        while sink.dropped_total < 3:
            sink.msg({"event": "line_written", "level": "info"})
            sent += 1
        assert len(dropped) == 3
        before = there.receive_all()
        assert len(before) == sent
        assert not any("LINES_DROPPED" in one for one in before)
        sink.msg({"event": "line_written", "level": "info"})
        sink.msg({"event": "line_written", "level": "info"})
    told, quiet = there.receive_all()
    assert told["LINES_DROPPED"] == b"3"
    assert told["MESSAGE"] == b"line_written lines_dropped=3"
    assert "LINES_DROPPED" not in quiet
    assert sink.dropped_total == 3


class Nowhere:
    """A way out that must not be taken."""

    def write(self, event: MutableMapping[str, object]) -> bool:
        raise AssertionError(f"a line that went elsewhere: {event}")


def test_no_key_takes_a_field_that_the_journal_or_we_give_a_meaning() -> None:
    keys = ("message", "PRIORITY", "syslog_pid", "message_id", "certeus_event", "code_line")
    event = {"event": "keys_tried", "level": "error", **dict.fromkeys(keys, "ours")}
    names = [name for name, _ in log_sinks.fields(event)]
    assert len(names) == len(set(names))
    given = dict(log_sinks.fields(event))
    assert (given["PRIORITY"], given["CERTEUS_EVENT"]) == ("3", "keys_tried")
    assert (given["CERTEUS_MESSAGE"], given["CERTEUS_PRIORITY"]) == ("ours", "ours")


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.binary(), max_size=4))
def test_a_line_is_one_line_whatever_it_holds(event: dict[str, object]) -> None:
    assert "\n" not in prefixed(event)
    assert json.loads(as_json(event)).keys() == event.keys()


def test_message_ids_never_change() -> None:
    # Operators' catalogs and filters have them.
    assert log_sinks.message_id("child_spawned") == CHILD_SPAWNED_ID
    assert log_sinks.message_id("child_\udc80") != CHILD_SPAWNED_ID


# --- streams ---------------------------------------------------------------------------------


def test_a_file_gets_json_whatever_the_length(tmp_path: Path) -> None:
    program = """
    log = logs.configure("worker", 1)
    log.info("line_written", text="x" * 100_000, odd={(1, 2): 3}, error=OSError("x"), bad="\\udc80")
    try:
        1 / 0
    except ZeroDivisionError:
        log.error("log_failed", exc_info=True)
    """
    first, second = run_with_file(program, tmp_path)
    assert (first["event"], first["role"], first["worker"]) == ("line_written", "worker", 1)
    assert first["text"] == "x" * 100_000
    assert (first["odd"], first["bad"]) == ("{(1, 2): 3}", "\udc80")
    assert (second["level"], second["worker"]) == ("error", 1)
    assert str(second["exception"]).endswith("ZeroDivisionError: division by zero")
    assert "timestamp" in second


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    yield reader, writer
    os.close(reader)
    os.close(writer)


def test_a_pipe_gets_whole_json_of_a_line_that_is_too_long(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    stream = Stream(writer, as_json)
    assert stream.write({"event": "log_failed", "exception": "first" + "ü" * 9999 + "last", "n": 1})
    many: dict[str, object] = {f"key_{number}": "x" * 100 for number in range(1000)}
    assert stream.write({"event": "log_failed", "level": "error", **many})
    cut, fewer = (json.loads(line) for line in os.read(reader, 1 << 20).splitlines())
    assert (cut["event"], cut["n"]) == ("log_failed", 1)
    assert cut["exception"].startswith("firstü")
    assert cut["exception"].endswith("ülast")
    assert fewer == {"event": "log_failed", "level": "error", "fields_dropped": 1002}
    timed = {"timestamp": "2026-11-22T01:02:03.456789Z", "event": "log_failed", **many}
    assert stream.write(timed)
    assert json.loads(os.read(reader, 1 << 20))["timestamp"] == timed["timestamp"]


def fill(sink: Sink) -> None:
    """Log until two lines were dropped."""
    while sink.dropped_total < 2:
        sink.msg({"event": "line_written", "text": "x" * 999})


def everything(reader: int) -> str:
    text = b""
    with suppress(BlockingIOError):
        while data := os.read(reader, 1 << 20):
            text += data
    return text.decode()


@pytest.mark.parametrize("render", [as_json, prefixed])
@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_who_is_full_drops_lines_and_the_next_one_says_how_many(
    kind: str, render: Callable[[Mapping[str, object]], str], pipe: tuple[int, int]
) -> None:
    with ExitStack() as stack:
        reader, writer = pipe
        if kind == "socket":
            ours, theirs = (stack.enter_context(end) for end in socket.socketpair())
            ours.setblocking(False)
            reader, writer = ours.fileno(), theirs.fileno()
        sink = Sink(stack.enter_context(closing(Stream(writer, render))), lambda: None)
        fill(sink)
        assert os.get_blocking(writer), "others write there, too"
        lines = everything(reader).splitlines()
        assert {len(line) for line in lines[:-1]} == {len(lines[0])}
        sink.msg({"event": "line_written"})
        told = render({"event": "line_written", "lines_dropped": 2})
        assert everything(reader) == f"{told}\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_a_full_pipe_of_another_user_stops_nobody(pipe: tuple[int, int]) -> None:
    def work() -> str:
        fill(Sink(Stream(pipe[1], as_json), lambda: None))
        return "not stopped"

    assert as_user(NOBODY.pw_uid, NOBODY.pw_gid, work) == "not stopped"


def test_a_closed_standard_error_stops_nobody() -> None:
    program = """
    os.close(2)
    log = logs.configure("log")
    log.error("log_failed")
    assert logs.lines_dropped() == 1
    """
    assert run(program, Path("/nonexistent"), subprocess.DEVNULL) == 0


@pytest.mark.parametrize(("environ", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_terminal_gets_lines_to_read(environ: dict[str, str], coloured: bool) -> None:
    controller, terminal = pty.openpty()
    program = 'logs.configure("log").warning("lock_awaited", cause="b")'
    assert run(program, Path("/nonexistent"), terminal, **environ) == 0
    shown = os.read(controller, 1 << 16).decode()
    for end in (controller, terminal):
        os.close(end)
    assert ("\x1b[" in shown) is coloured
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert re.search(r"\[warning +\] lock_awaited +cause=b role=log", plain)


def test_a_terminal_that_nobody_reads_stops_nobody() -> None:
    controller, terminal = pty.openpty()
    tty.setraw(terminal)
    sink = Sink(Stream(terminal, as_json), lambda: None)
    # Where the flag of a shared terminal were set, the shell's own writes would fail.
    assert os.get_blocking(terminal)
    first = {"event": "line_written", "texts": ["x" * 1000] * 8}
    sink.msg(first)
    shown = b""
    while not shown.endswith(b"\n"):
        shown += os.read(controller, 1 << 16)
    assert json.loads(shown) == first
    while sink.dropped_total < 3:
        sink.msg({"event": "line_written", "text": "x" * 100_000})
    for end in (controller, terminal):
        os.close(end)
