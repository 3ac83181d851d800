"""`/metrics` of a whole daemon: exact over the ends of workers, and where it is configured."""

import http.client
import re
import threading
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

import certeus
from certeus import Producer
from support.daemon import Daemon, running, scratch_dir
from support.ports import free_port, refuses
from support.promtool import promtool
from support.waiting import wait_until

pytestmark = pytest.mark.integration

AWAY = '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n'
KILLS = 4
ROUND = 500
"""Events between two rejections, and between two duplicates."""

Series = dict[str, float]


def read(text: str) -> Series:
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def scrape(daemon: Daemon) -> Series:
    return read(daemon.text("/metrics"))


def counters(series: Series) -> Series:
    """What must never go back: counters, and all of histograms."""
    kept = re.compile(r"_(total|bucket|count|sum)(\{|$)")
    return {name: value for name, value in series.items() if kept.search(name)}


def total(series: Series, family: str) -> float:
    return sum(value for name, value in series.items() if name.partition("{")[0] == family)


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running(AWAY) as daemon:
        yield daemon
        assert daemon.stop() == 0


def reload(daemon: Daemon, more: str, code: int = 0) -> None:
    daemon.config_path.write_text(AWAY + more)
    daemon.certeus("reload", code=code)


class Load:
    """Appends until it is told to end: events, retries of an id, and what the daemon rejects."""

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Load":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        number = 0
        while not self._ended.is_set():
            for _ in range(ROUND):
                self._producer.append("t", {"n": number}, timeout=60.0)
                number += 1
            self._producer.append("t", {"n": 0}, id="the same", timeout=60.0)
            self._producer.append("t", b'"\\u0000"', timeout=60.0)
            self._settle(self._producer.append("t", {"n": -number}, id="the same", timeout=60.0))

    def _settle(self, ticket: int) -> None:
        try:
            self._producer.wait_durable(ticket, timeout=60.0)
        except certeus.RejectedError:
            return  # Each round has some.


def has_settled(producer: Producer, tickets: int) -> bool:
    return producer.statistics().settled > tickets


def has_successor(daemon: Daemon, index: int, pid: int) -> bool:
    return daemon.worker_pids().get(index, pid) != pid


def test_counters_are_exact_and_never_go_back_although_workers_are_killed() -> None:
    with running(AWAY + "[worker]\ncount = 2\n") as daemon:
        wait_until("both workers", lambda: len(daemon.worker_pids()) == 2)
        series = [scrape(daemon)]
        with certeus.connect(daemon.ingest, source="exact") as producer, Load(producer):
            for kill in range(KILLS):
                settled = producer.statistics().settled
                wait_until("progress", partial(has_settled, producer, settled + 1000))
                (killed,) = daemon.kill(f"worker{kill % 2}")
                wait_until("its successor", partial(has_successor, daemon, kill % 2, killed))
                series.append(scrape(daemon))
        told = producer.statistics()
        series.append(scrape(daemon))
    for before, after in pairwise(series):
        back = {name for name, value in counters(before).items() if after[name] < value}
        assert not back
    last = series[-1]
    assert told.rejected > KILLS
    assert {
        "accepted": last['certeus_verdicts_total{verdict="accepted"}'],
        "duplicates": last['certeus_verdicts_total{verdict="duplicate"}'],
        "rejected": last['certeus_verdicts_total{verdict="rejected"}'],
    } == {
        "accepted": told.accepted, "duplicates": told.duplicates, "rejected": told.rejected,
    }  # fmt: skip
    assert total(last, "certeus_rejected_events_total") == told.rejected
    rejected = 'certeus_rejected_events_total{reason="%s",stage="%s"}'
    nul, conflict = (
        last[rejected % of] for of in (("nul-character", "validate"), ("id-conflict", "commit"))
    )
    assert (nul + conflict, nul > 0, conflict > 0) == (told.rejected, True, True)
    assert last['certeus_events_total{stage="commit"}'] == told.accepted
    assert last["certeus_group_records_sum"] == told.accepted
    assert last["certeus_group_records_count"] == last["certeus_groups_total"]
    assert last['certeus_events_total{stage="ingest"}'] >= told.settled
    restarts = [
        last[f'certeus_process_restarts_total{{role="worker",slot="{slot}"}}'] for slot in (0, 1)
    ]
    assert restarts == [KILLS / 2, KILLS / 2]
    for slot in (0, 1):
        spent = [one[f'certeus_process_cpu_seconds_total{{role="worker",slot="{slot}"}}']
                 for one in series]  # fmt: skip
        assert spent == sorted(spent)


def test_each_row_is_counted_with_the_time_that_it_took_to_postgresql() -> None:
    with running() as daemon:
        lines = b"".join(b'{"n":%d}\n' % number for number in range(3000))
        daemon.certeus("append", "-", stdin=lines)
        daemon.certeus("wait", "--flushed", "--timeout", "60")
        found = scrape(daemon)
        assert found["certeus_delivery_seconds_count"] == 3000
        assert found["certeus_delivery_seconds_sum"] > 0
        assert found["certeus_batch_rows_sum"] == 3000
        assert found["certeus_batch_rows_count"] == found["certeus_batches_total"]
        assert found['certeus_events_total{stage="deliver"}'] == 3000
        assert found["certeus_ack_seconds_count"] == 3000
        assert found["certeus_lag_events"] == 0
        assert found['certeus_follower_lag_bytes{follower="postgres"}'] == 0
        assert promtool("check", "metrics", stdin=daemon.text("/metrics")) == ""


def at_port(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def test_socket_port_and_file_say_the_same_and_promtool_likes_it(daemon: Daemon) -> None:
    with scratch_dir() as directory:
        file, port = directory / "certeus.prom", free_port()
        shown = f'[metrics]\nlisten = "127.0.0.1:{port}"\ntextfile = "{file}"\n'
        reload(daemon, shown + "textfile_interval_ms = 100\n")
        wait_until("the file", file.exists)
        texts = [daemon.text("/metrics"), at_port(port), file.read_text()]
        assert read(texts[0]).keys() == read(texts[1]).keys() == read(texts[2]).keys()
        for text in texts:
            assert promtool("check", "metrics", stdin=text) == ""
        reload(daemon, "")
        wait_until("the file's end", lambda: not file.exists())
        wait_until("the port's end", lambda: refuses(port))


def test_a_file_that_cannot_be_written_is_a_reason_and_no_more(
    daemon: Daemon, tmp_path: Path
) -> None:
    reload(daemon, f'[metrics]\ntextfile = "{tmp_path}/none/certeus.prom"\n')
    name = 'certeus_reason{code="metrics-textfile"}'
    wait_until("the reason", lambda: scrape(daemon)[name] == 1)
    assert daemon.status()["state"] == "degraded"
    with certeus.connect(daemon.ingest, source="all the same") as producer:
        producer.wait_durable(producer.append("t", {"n": 1}), timeout=30.0)
    reload(daemon, "")
    wait_until("its end", lambda: scrape(daemon)[name] == 0)


def test_thresholds_hold_at_once_and_a_reload_that_fails_is_seen(daemon: Daemon) -> None:
    name = 'certeus_threshold_ratio{resource="cpu",severity="warning"}'
    reload(daemon, "[thresholds]\ncpu_warning = 0.5\n")
    before = scrape(daemon)
    assert (before[name], before["certeus_config_last_reload_successful"]) == (0.5, 1)
    reload(daemon, "[thresholds]\ncpu_warning = 0.99\n", code=78)
    after = scrape(daemon)
    assert (after[name], after["certeus_config_last_reload_successful"]) == (0.5, 0)
    read_at = "certeus_config_last_reload_success_timestamp_seconds"
    assert after[read_at] == before[read_at]
    reload(daemon, "[cpu]\npin = 'off'\n")
    last = scrape(daemon)
    assert (last[name], last["certeus_config_last_reload_successful"]) == (0.8, 1)
    assert last["certeus_config_pending_keys"] == 1
    assert last[read_at] > before[read_at]
    reload(daemon, "")


def test_what_a_scrape_shows_is_of_now(daemon: Daemon) -> None:
    with certeus.connect(daemon.ingest, source="now") as producer:
        for _ in range(20):
            producer.wait_durable(producer.append("t", {"n": 1}), timeout=30.0)
            receipt = producer.receipt(producer.statistics().settled)
            assert scrape(daemon)["certeus_durable_seq"] >= receipt.seq
