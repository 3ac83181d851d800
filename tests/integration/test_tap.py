"""`certeus tap` of a real daemon: nothing is missed or doubled, whoever dies, whoever is slow."""

import contextlib
import fcntl
import json
import mmap
import os
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Generator, Iterator
from typing import IO, Any

import pytest

import certeus
from support.daemon import Daemon, running
from support.waiting import wait_until

pytestmark = pytest.mark.integration

CONFIG = """
[worker]
count = 1
[postgres]
dsn = "postgresql://nobody@/none?host=/nonexistent"
"""
WAIT_S = 60.0


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running(CONFIG, doors=["api"]) as daemon:
        yield daemon
        assert daemon.stop() == 0


def command(daemon: Daemon, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "certeusd.cli", "--runtime-dir", str(daemon.runtime_dir),
            "tap", *arguments]  # fmt: skip


class Tap:
    """A tap at work, and what it has printed so far."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.lines: list[bytes] = []
        self.told: list[bytes] = []
        self.ended = False
        assert process.stdout is not None
        assert process.stderr is not None
        self._threads = [
            threading.Thread(target=self._collect, args=(process.stdout, self.lines)),
            threading.Thread(target=self._collect, args=(process.stderr, self.told)),
        ]
        for thread in self._threads:
            thread.start()

    @staticmethod
    def _collect(file: IO[bytes], lines: list[bytes]) -> None:
        lines.extend(iter(file.readline, b""))

    def seqs(self) -> list[int]:
        return [int(json.loads(line)["seq"]) for line in list(self.lines)]

    def end(self, signum: int = signal.SIGINT) -> int:
        self.ended = True
        self.process.send_signal(signum)
        code = self.process.wait(WAIT_S)
        for thread in self._threads:
            thread.join(WAIT_S)
        for file in (self.process.stdout, self.process.stderr):
            assert file is not None
            file.close()
        return code


@contextlib.contextmanager
def tapping(daemon: Daemon, *arguments: str) -> Generator[Tap]:
    wait_until("nobody follows", lambda: subscribers(daemon) == 0, WAIT_S)
    process = subprocess.Popen(
        command(daemon, *arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    tap = Tap(process)
    try:
        yield tap
    finally:
        if not tap.ended:
            tap.end(signal.SIGKILL)


def append(daemon: Daemon, type: str, count: int) -> None:
    with certeus.connect(daemon.ingest, source="tap") as producer:
        producer.wait_durable(producer.append_many(type, [{"n": n} for n in range(count)]), WAIT_S)


def durable(daemon: Daemon) -> int:
    return int(daemon.status()["durable_seq"])


def another_api(daemon: Daemon, old: int) -> None:
    wait_until("another api", lambda: daemon.pids("api") not in ([], [old]), WAIT_S)


def test_a_line_is_an_event_that_cannot_move_the_cursor(daemon: Daemon) -> None:
    before = durable(daemon)
    with certeus.connect(daemon.ingest, source="tap\u202e") as producer:
        producer.append("line", {"text": "\u001b[31m"}, subject="a\u2028b")
        producer.append("line", "y" * 100_000)
        last = producer.append("line", b"\x1b[2J", content_type="image/png")
        producer.wait_durable(last, WAIT_S)
    done = daemon.certeus("tap", "--type", "line", "--after-seq", str(before), "-n", "3")
    first, second, third = done.stdout.decode().splitlines()
    assert first.split("  ")[1:] == [
        str(before + 1), "tap\\u202e", "line", "a\\u2028b", '{"text":"\\u001b[31m"}',
    ]  # fmt: skip
    assert second.endswith("yyy…")
    assert len(second) < 300
    assert third.endswith("(4 bytes)")


def test_filters_and_a_limit_are_the_apis(daemon: Daemon) -> None:
    before = durable(daemon)
    append(daemon, "wanted.one", 3)
    append(daemon, "other", 3)
    append(daemon, "wanted.two", 3)
    done = daemon.certeus(
        "tap", "--json", "--type", "wanted.*", "--source", "tap", "--after-seq", str(before),
        "--limit", "5",
    )  # fmt: skip
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["seq"] - before for one in told] == [1, 2, 3, 7, 8]
    assert {one["schema_version"] for one in told} == {1}


@pytest.mark.crash
def test_no_event_is_missed_or_doubled_while_the_api_dies(daemon: Daemon) -> None:
    before = durable(daemon)
    with tapping(daemon, "--json", "--after-seq", str(before)) as tap:
        for _ in range(3):
            append(daemon, "dies", 5000)
            wait_until("some of them", lambda: len(tap.lines) > 0, WAIT_S)
            (old,) = daemon.kill("api")
            append(daemon, "dies", 5000)
            another_api(daemon, old)
        expected = list(range(before + 1, before + 30_001))
        wait_until("all of them", lambda: len(tap.lines) >= 30_000, WAIT_S)
        assert tap.seqs() == expected
        assert tap.end() == 130
    assert any(b"the api is there again" in line for line in tap.told)


@pytest.mark.crash
def test_who_begins_with_now_misses_nothing_after_it(daemon: Daemon) -> None:
    """The stream breaks before its first event: the number where it began is known all the same."""
    append(daemon, "before", 10)
    before = durable(daemon)
    with tapping(daemon, "--json", "--type", "now") as tap:
        wait_until("it follows", lambda: subscribers(daemon) == 1, WAIT_S)
        (old,) = daemon.kill("api", signal.SIGSTOP)
        append(daemon, "now", 10)
        os.kill(old, signal.SIGKILL)
        wait_until("all of them", lambda: len(tap.lines) >= 10, WAIT_S)
        assert tap.seqs() == list(range(before + 1, before + 11))


def subscribers(daemon: Daemon) -> int:
    processes = daemon.status()["processes"]
    return int(next(one["counters"]["subscribers"] for one in processes if one["role"] == "api"))


def test_once_ends_with_the_stream(daemon: Daemon) -> None:
    with tapping(daemon, "--once") as tap:
        wait_until("it follows", lambda: subscribers(daemon) == 1, WAIT_S)
        (old,) = daemon.kill("api")
        assert tap.process.wait(WAIT_S) == 69
    another_api(daemon, old)
    assert b"the api ended the stream" in b"".join(tap.told)


def test_a_slow_reader_keeps_only_itself_waiting(daemon: Daemon) -> None:
    before = durable(daemon)
    rows = [["x" * 5000]] * 4000
    with contextlib.ExitStack() as ends:
        process = subprocess.Popen(
            command(daemon, "--json", "--after-seq", str(before)), stdout=subprocess.PIPE
        )
        ends.callback(process.wait)
        ends.callback(process.kill)
        with certeus.connect(daemon.ingest, source="tap") as producer:
            producer.wait_durable(producer.append_many("slow", rows), WAIT_S)
        other = daemon.certeus("tap", "--json", "--after-seq", str(before), "-n", "4000")
        assert len(other.stdout.splitlines()) == 4000
        assert process.stdout is not None
        seqs = [json.loads(process.stdout.readline())["seq"] for _ in range(4000)]
        assert seqs == list(range(before + 1, before + 4001)), "it goes on where it was"
        process.stdout.close()


def test_it_ends_when_nobody_reads_it(daemon: Daemon) -> None:
    wait_until("nobody follows", lambda: subscribers(daemon) == 0, WAIT_S)
    process = subprocess.Popen(command(daemon), stdout=subprocess.PIPE)
    assert process.stdout is not None
    wait_until("it follows", lambda: subscribers(daemon) == 1, WAIT_S)
    process.stdout.close()
    assert process.wait(WAIT_S) == 1, "though nothing came to be printed"


def test_an_interrupt_does_not_wait_for_who_reads_nothing(daemon: Daemon) -> None:
    before = durable(daemon)
    append(daemon, "x" * 250, 100)
    reads, writes = os.pipe()
    with os.fdopen(reads, "rb"), os.fdopen(writes, "wb"):
        fcntl.fcntl(writes, fcntl.F_SETPIPE_SZ, mmap.PAGESIZE)
        arguments = command(daemon, "--json", "--after-seq", str(before))
        process, waiting = subprocess.Popen(arguments, stdout=writes), bytearray(4)

        def is_full() -> bool:  # No line fits any more.
            fcntl.ioctl(reads, termios.FIONREAD, waiting)
            return int.from_bytes(waiting, sys.byteorder) > mmap.PAGESIZE - 400

        try:
            wait_until("the pipe is full", is_full, WAIT_S)
            process.send_signal(signal.SIGINT)
            code = process.wait(WAIT_S)
        finally:
            process.kill()
            process.wait()
        assert code == 130


def test_rates_are_told_each_second(daemon: Daemon) -> None:
    before = durable(daemon)
    append(daemon, "fast", 1000)
    with tapping(daemon, "--rate", "--json", "--after-seq", str(before)) as tap:

        def told() -> list[dict[str, Any]]:
            return [json.loads(line) for line in list(tap.lines)]

        wait_until("all of them", lambda: sum(one["events"] for one in told()) == 1000, WAIT_S)
        lines = [one for one in told() if one["events"]]
        assert sum(one["types"]["fast"]["events"] for one in lines) == 1000
        assert sum(one["bytes"] for one in lines) > 100_000
        assert min(one["seconds"] for one in told()) > 0.9
    with tapping(daemon, "--rate", "--after-seq", str(before)) as tap:
        wait_until("some of them", lambda: any(b"fast" in line for line in tap.lines), WAIT_S)
        assert all(b"events/s" in line for line in tap.lines)
    assert len(daemon.certeus("tap", "--rate", "-n", "2").stdout.splitlines()) == 2


def test_without_an_api_the_next_step_is_told(daemon: Daemon) -> None:
    done = daemon.certeus("tap", "--socket", str(daemon.root / "none.sock"), code=69)
    assert b"with [api] enabled" in done.stderr
