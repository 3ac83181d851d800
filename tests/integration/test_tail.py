"""`certeus tail` beside a daemon at work: from any number, over the ends of log writers."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import IO

import pytest

import certeus
from certeus import Producer
from support.daemon import Daemon, running
from support.waiting import wait_until

pytestmark = pytest.mark.integration

AWAY = '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n'
LIVES = 3
EVENTS = 40


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running(AWAY) as daemon:
        yield daemon
        assert daemon.stop() == 0


@contextmanager
def following(daemon: Daemon, *options: str) -> Generator[IO[str]]:
    places = ["--state-dir", str(daemon.state_dir), "--runtime-dir", str(daemon.runtime_dir)]
    program = [sys.executable, "-P", "-m", "certeusd.cli.main", *places, "tail", "-f", *options]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout
        finally:
            process.send_signal(signal.SIGTERM)


def append(producer: Producer, first: int) -> None:
    ticket = 0
    for n in range(first, first + EVENTS):
        ticket = producer.append("rare" if n % 10 == 0 else "tick", {"n": n})
    producer.wait_durable(ticket, timeout=30.0)


def test_every_event_of_a_type_is_followed_once_over_the_ends_of_log_writers(
    daemon: Daemon,
) -> None:
    with (
        certeus.connect(daemon.ingest, source="tail") as producer,
        following(daemon, "--after-seq", "0", "--type", "ra*") as lines,
    ):
        for life in range(LIVES):
            append(producer, life * EVENTS)
            expected = range(life * EVENTS, (life + 1) * EVENTS, 10)
            found = [json.loads(lines.readline()) for _ in expected]
            assert [one["data"]["n"] for one in found] == list(expected)
            assert {one["type"] for one in found} == {"rare"}
            daemon.kill("log")
            wait_until("log writer", daemon.takes_events)


def test_behind_any_number_is_the_end_of_all(daemon: Daemon) -> None:
    whole = daemon.certeus("log", "export").stdout.splitlines()
    seqs = [json.loads(line)["seq"] for line in whole]
    assert seqs == list(range(1, LIVES * EVENTS + 1))
    for after_seq in (0, 1, EVENTS - 1, EVENTS, EVENTS + 1, 2 * EVENTS, 3 * EVENTS - 1, 3 * EVENTS):
        tail = daemon.certeus("tail", "--after-seq", str(after_seq)).stdout.splitlines()
        assert tail == whole[after_seq:], after_seq
    assert daemon.certeus("tail", "-n", "7").stdout.splitlines() == whole[-7:]
    sources = daemon.certeus("tail", "--source", "tail", "-n", "1000").stdout.splitlines()
    assert sources == whole


def test_what_a_stranger_wrote_cannot_steer_the_terminal(daemon: Daemon) -> None:
    text = "\x9b2J\u202eevil"
    with certeus.connect(daemon.ingest, source="stranger") as producer:
        ticket = producer.append("odd", {"text": text})
        producer.wait_durable(ticket, timeout=30.0)
    (plain,) = daemon.certeus("tail", "--source", "stranger").stdout.splitlines()
    assert text in plain.decode()
    controller, terminal = pty.openpty()
    with os.fdopen(controller, "rb", buffering=0) as screen:
        places = ["--state-dir", str(daemon.state_dir), "--runtime-dir", str(daemon.runtime_dir)]
        program = [sys.executable, "-P", "-m", "certeusd.cli.main", *places]
        subprocess.run([*program, "tail", "--source", "stranger"], stdout=terminal, check=True)
        shown = screen.read(65_536).decode().strip()
        os.close(terminal)
    assert shown.isprintable()
    assert json.loads(shown) == json.loads(plain)
