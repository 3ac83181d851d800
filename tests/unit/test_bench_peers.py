"""What peers are measured with; of the peers themselves, those that need nothing installed."""

import itertools
import sys
from pathlib import Path

import psutil
import pytest

from certeus_bench.peers import (
    chronicle,
    copy_clients,
    durable_log,
    installed,
    jetstream,
    loads,
    producing,
    redis_copy,
    redis_streams,
    rsyslog,
    running,
    sqlite_wal,
)
from certeus_bench.rows import make_rows
from certeus_bench.scenario import AbsentError, Context, Scenario

SECOND_NS = 1_000_000_000
MODULES = (
    chronicle, copy_clients, jetstream, redis_copy, redis_streams, rsyslog, sqlite_wal,
)  # fmt: skip
NEED_NOTHING = {"asyncpg", "sqlite"}


def scenarios() -> list[Scenario]:
    return [scenario for module in MODULES for scenario in module.SCENARIOS]


def context(home: Path) -> Context:
    return Context(warmup_seconds=0.05, seconds=0.5, home=home, cpus=(0,))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The time of the tally under test, in its only item."""
    now = [0]
    monkeypatch.setattr("time.monotonic_ns", lambda: now[0])
    return now


@pytest.fixture
def no_peers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(installed, "PEERS", tmp_path / "nowhere")
    monkeypatch.setattr(installed, "SYSTEM_PATH", str(tmp_path))


@pytest.mark.parametrize("size", [1, 3, 4, 5, 11])
def test_batches_offer_the_same_items_in_order_for_ever(size: int) -> None:
    taken = list(itertools.islice(producing.batches([0, 1, 2, 3], size), 9))
    assert {len(batch) for batch in taken} == {size}
    flat = [item for batch in taken for item in batch]
    assert flat == [number % 4 for number in range(9 * size)]


@pytest.mark.parametrize("count", [0, 1, 8192, 20_000])
def test_written_sum_is_the_checksum_of_that_many_rows(count: int) -> None:
    rows = make_rows(150, seed=1)
    offered = itertools.islice(itertools.cycle(rows), count)
    assert producing.written_sum(rows, count) == producing.checksum(offered)


def test_tally_counts_what_was_acknowledged_after_the_warm_up(clock: list[int]) -> None:
    tally = producing.Tally(0, warmup_seconds=1.0, seconds=2.0)
    clock[0] = SECOND_NS - 1
    tally.add(5, clock[0])
    clock[0] = 2 * SECOND_NS
    tally.add(7, clock[0])
    report = tally.report(written_sum=0)
    assert tally.acknowledged == 12
    assert report["operations"] == 7
    assert report["intervals"] == [0, 0, 7, 0]
    assert report["last_ns"] == 2 * SECOND_NS


def test_tally_has_an_interval_for_what_was_acknowledged_after_the_end(clock: list[int]) -> None:
    tally = producing.Tally(0, warmup_seconds=0.0, seconds=1.0)
    for at in (SECOND_NS // 4, 2 * SECOND_NS + 1):
        clock[0] = at
        tally.add(3, at)
    assert tally.report(written_sum=0)["intervals"] == [3, 0, 0, 0, 3]


def test_tally_counts_the_part_of_a_batch_that_came_after_the_warm_up(clock: list[int]) -> None:
    tally = producing.Tally(0, warmup_seconds=1.0, seconds=1.0)
    clock[0] = SECOND_NS + SECOND_NS // 4
    tally.add(1000, SECOND_NS // 4)
    assert tally.report(written_sum=0)["operations"] == 250
    assert tally.acknowledged == 1000


def test_tally_times_nothing_that_began_in_the_warm_up(clock: list[int]) -> None:
    tally = producing.Tally(0, warmup_seconds=1.0, seconds=1.0)
    clock[0] = SECOND_NS + 10
    tally.add_timed(SECOND_NS - 10)
    tally.add_timed(SECOND_NS + 4)
    assert tally.times_ns == [6]


def test_loads_end_with_the_last_of_all_producers() -> None:
    def report(operations: int, last_s: int) -> loads.Report:
        return loads.Report(
            operations=operations, acknowledged=operations, counted_from_ns=SECOND_NS,
            last_ns=last_s * SECOND_NS, intervals=[0] * last_s + [operations], written_sum=2**63,
            cpu_seconds=0.5, times_ns=[], timer_ns=30,
        )  # fmt: skip

    load = loads.Load([report(10, 3), report(20, 5)], None, 0.25)
    measured = loads.measurement(load, context(Path()), 200, 2, 0)
    assert (measured.operations, measured.seconds) == (30, 4.0)
    assert measured.intervals == [0, 0, 0, 10, 0, 20]
    assert measured.written_sum == 0
    assert measured.cpu_seconds == 0.25
    assert measured.facts == {"producer_cpu_seconds": 1.0}


def test_scenarios_of_one_name_are_of_different_systems() -> None:
    names = [(scenario.name, scenario.system) for scenario in scenarios()]
    assert len(set(names)) == len(names)


def test_only_what_acknowledges_before_it_syncs_is_marked_unsafe() -> None:
    unsafe = {scenario.system for scenario in scenarios() if scenario.unsafe}
    assert {system.split(", ")[1] for system in unsafe} == {"sync_interval 2m"}


@pytest.mark.usefixtures("no_peers")
@pytest.mark.parametrize("module", MODULES)
def test_peer_that_is_not_installed_says_what_installs_it(
    module: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    for number, scenario in enumerate(getattr(module, "SCENARIOS", [])):
        if scenario.system.split()[0] in NEED_NOTHING:
            continue
        home = tmp_path / str(number)
        home.mkdir()
        with pytest.raises(AbsentError, match="durable_peers"):
            scenario.measure(context(home))


def test_sqlite_holds_all_that_two_producers_were_told_is_durable(tmp_path: Path) -> None:
    measured = durable_log.measure(context(tmp_path), sqlite_wal.serve, loads.PRODUCERS, 100)
    assert measured.operations > 0
    assert measured.written_sum == measured.read_sum
    assert sum(measured.intervals) == measured.operations
    assert measured.cpu_seconds


def test_sqlite_single_events_are_timed_each(tmp_path: Path) -> None:
    measured = durable_log.measure(context(tmp_path), sqlite_wal.serve, 1, 1)
    assert measured.histogram
    assert measured.operations > 0
    assert measured.written_sum == measured.read_sum


def test_redis_is_reached_by_its_socket_alone_and_syncs_always(tmp_path: Path) -> None:
    lines = redis_streams.configuration(tmp_path, "/tmp/some.sock").splitlines()
    assert {"port 0", 'appendfsync "always"', 'save ""', "protected-mode yes"} <= set(lines)


def test_jetstream_address_is_there_when_the_server_has_written_it(tmp_path: Path) -> None:
    assert jetstream.address(tmp_path) is None
    ports = tmp_path / "nats-server_7.ports"
    ports.write_text("")
    assert jetstream.address(tmp_path) is None
    ports.write_text('{"nats": ["nats://127.0.0.1:4711"]}')
    assert jetstream.address(tmp_path) == "nats://127.0.0.1:4711"


def test_server_is_ended_when_its_user_fails(tmp_path: Path) -> None:
    serving = running.server(["sleep", "60"], tmp_path / "log", lambda: True)
    with pytest.raises(ZeroDivisionError), serving as process:
        raise ZeroDivisionError
    assert not psutil.pid_exists(process.pid)


def test_server_that_ends_at_once_is_told_with_its_last_words(tmp_path: Path) -> None:
    command = ["sh", "-c", "echo no room here; exit 1"]
    with (
        pytest.raises(running.PeerError, match="no room here"),
        running.server(command, tmp_path / "log", lambda: False),
    ):
        pass


def test_program_that_does_not_begin_takes_the_others_with_it() -> None:
    waits = [sys.executable, "-c", "print('ready', flush=True); input()"]
    fails = [sys.executable, "-c", "print('no server')"]
    before = set(psutil.Process().children())
    with pytest.raises(running.PeerError, match="no server"), running.programs([waits, fails]):
        pass
    assert set(psutil.Process().children()) == before
