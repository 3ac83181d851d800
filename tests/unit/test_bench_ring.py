"""What the ring is measured with: rows and their sums, programs and what is left of them."""

import itertools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

import certeus
from certeus_bench import memory_floors, native, ring, ring_producer
from certeus_bench.homes import fresh_home
from certeus_bench.native import ProgramError
from certeus_bench.results import Measurement, Scope
from certeus_bench.rows import make_rows
from certeus_bench.scenario import AbsentError, Context
from certeus_bench.scenarios import OWN
from certeus_bench.word_sum import WRAP, total_sum, word_sum
from support.fake_daemon import FakeDaemon

MEASURED = Measurement(operations=3, seconds=1.5, warmup_seconds=0.5, bytes_each=100)


@pytest.fixture
def context() -> Iterator[Context]:
    # Not below tmp_path, whose names are too long for a socket's path.
    with fresh_home(Path(tempfile.gettempdir())) as home:
        yield Context(warmup_seconds=0.01, seconds=0.02, home=home, cpus=(0,))


def script(directory: Path, *lines: str) -> Path:
    path = directory / "program"
    path.write_text("\n".join(["#!/bin/sh", *lines]))
    path.chmod(0o755)
    return path


def left_in_memory(context: Context) -> list[Path]:
    return list(native.SHARED_MEMORY.glob(f"{context.home.name}*"))


def test_an_object_made_of_a_row_becomes_the_same_bytes_again() -> None:
    rows = make_rows(100, seed=0)
    for row in rows:
        assert json.dumps(json.loads(row), separators=(",", ":")).encode() == row


def test_the_sum_is_that_of_little_endian_words_and_a_short_one() -> None:
    assert word_sum(b"") == 0
    assert word_sum(b"\x01") == 1
    assert word_sum(bytes([1] + 7 * [0] + [2, 1])) == 1 + 2 + 256
    assert word_sum(16 * b"\xff") == WRAP - 2


def test_every_byte_changes_the_sum() -> None:
    row = make_rows(100, seed=0)[0]
    changed = {word_sum(row[:at] + b"\0" + row[at + 1 :]) for at in range(len(row))}
    assert word_sum(row) not in changed


@pytest.mark.parametrize("count", [0, 1, 3, 4, 11])
def test_the_total_is_the_sum_of_that_many_payloads_in_turn(count: int) -> None:
    sums = [1, 20, WRAP - 1]
    want = sum(itertools.islice(itertools.cycle(sums), count)) % WRAP
    assert total_sum(sums, count) == want


def test_what_the_bars_ask_for_is_measured_in_this_order() -> None:
    names = [scenario.name for scenario in OWN]
    assert names.index("floor/ping-pong") < names.index("ring/one-way")
    assert {"ring/throughput", "ring/throughput-python", "ring/throughput-dict"} <= set(names)
    for scenario in ring.SCENARIOS:
        assert scenario.scope in {Scope.RING, Scope.INPROC}


def test_program_that_is_not_built_says_what_builds_it(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "BIN", context.home / "nowhere")
    for scenario in (*memory_floors.SCENARIOS, *ring.SCENARIOS):
        with pytest.raises(AbsentError, match=r"bench/install/native\.sh builds it"):
            scenario.measure(context)


def test_a_program_is_told_once_and_leaves_nothing_in_memory(context: Context) -> None:
    told = msgspec.json.encode(MEASURED).decode()
    leaves = f'touch "/dev/shm/{context.home.name}-kept"'
    program = script(context.home, leaves, f'printf %s "$1" >{context.home}/told', f"echo '{told}'")
    scenario = native.scenario("ring/x", "x", "nothing", lambda: program, payload_bytes=7)
    assert scenario.measure(context) == MEASURED
    assert json.loads((context.home / "told").read_bytes()) == {
        "payload_bytes": 7, "warmup_seconds": 0.01, "seconds": 0.02, "cpus": [0],
        "home": str(context.home),
    }  # fmt: skip
    assert not left_in_memory(context)


def test_a_program_that_fails_is_told_with_what_it_said(context: Context) -> None:
    program = script(context.home, "echo 'cannot run on CPU 99' >&2", "exit 3")
    scenario = native.scenario("ring/x", "x", "nothing", lambda: program)
    with pytest.raises(ProgramError, match=r"(?s)ended with 3.*cannot run on CPU 99"):
        scenario.measure(context)
    assert not left_in_memory(context)


def test_a_reader_does_not_outlive_a_producer_that_fails(context: Context) -> None:
    reader = script(context.home, "exec sleep 1000")
    scenario = native.produced(
        "ring/x", "x", "nothing", lambda: reader, lambda: ["/bin/false"], payload_bytes=100
    )
    with pytest.raises(ProgramError, match="false ended with 1"):
        scenario.measure(context)
    assert not left_in_memory(context)


@pytest.mark.parametrize("call", ["append", "append_many"])
@pytest.mark.parametrize("data", ["bytes", "dict"])
def test_a_producer_tells_how_much_it_wrote_and_its_sum(
    tmp_path: Path, call: str, data: str
) -> None:
    settings = ring_producer.Settings(socket="", cpu=0, seconds=0.0, call=call, data=data)
    rows, sums = ring_producer.make_data(settings)
    with FakeDaemon(str(tmp_path / "ingest.sock")) as daemon:
        producer = certeus.connect(daemon.path, source="test")
        try:
            count = ring_producer.produce(producer, settings, rows)
            session = daemon.session()
            taken = session.accept(count)
        finally:
            producer.close(0)
    assert count == ring_producer.BATCH_ROWS
    assert sum(word_sum(event.data) for event in taken) % WRAP == total_sum(sums, count)


def test_single_calls_of_a_producer_are_timed_each(tmp_path: Path) -> None:
    settings = ring_producer.Settings(socket="", cpu=0, seconds=0.02, call="append")
    rows, sums = ring_producer.make_data(settings)
    with FakeDaemon(str(tmp_path / "ingest.sock")) as daemon:
        producer = certeus.connect(daemon.path, source="test", ring_bytes=1 << 20)
        session = daemon.session()
        session.serve()
        try:
            measured = ring_producer.time_calls(producer, settings, rows, sums)
        finally:
            producer.close(10)
    assert measured.operations > 0
    assert measured.histogram
    assert measured.bytes_each == 100
