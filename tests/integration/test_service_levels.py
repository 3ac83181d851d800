"""Service levels of a whole daemon: measured from events, compared with `[sla]`, over a reload."""

import contextlib
import json
from collections.abc import Iterator
from typing import cast

import pytest

import certeus
from certeusd.control.sla import Objective, Sla
from support.daemon import Daemon, running
from support.waiting import wait_until

pytestmark = pytest.mark.integration

EVENTS = 500
Objectives = dict[str, dict[str, object]]


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with running() as daemon:
        daemon.certeus("dsn")  # it waits until server and schema are there
        with certeus.connect(daemon.ingest, source="sla") as producer:
            producer.wait_durable(producer.append_many("tick", ({"n": n} for n in range(EVENTS))))
        daemon.certeus("wait", "--flushed", "--timeout", "60")
        yield daemon
        assert daemon.stop() == 0


def objectives(daemon: Daemon) -> Objectives:
    answer = daemon.get("/v1/sla")
    assert set(answer) == set(Sla.__struct_fields__)
    assert answer["met"] is all(one["met"] for one in answer["objectives"])
    assert all(set(one) == set(Objective.__struct_fields__) for one in answer["objectives"])
    return {one["name"]: one for one in answer["objectives"]}


def availability(daemon: Daemon) -> float:
    return cast(float, objectives(daemon)["availability"]["measured"])


def reload(daemon: Daemon, config: str) -> None:
    daemon.config_path.write_text(config)
    answer = json.loads(daemon.certeus("reload", "--json").stdout)
    assert answer["restarted"] == answer["pending"] == []


def test_events_give_a_measured_time_to_verdict_and_row(daemon: Daemon) -> None:
    reload(daemon, "[sla]\nack_p99_ms = 3600000\nrow_p99_ms = 3600000\navailability = 0.000001\n")
    found = objectives(daemon)
    assert list(found) == ["ack_p99", "row_p99", "availability"]
    for name in ("ack_p99", "row_p99"):
        one = found[name]
        assert cast(int, one["samples"]) >= EVENTS
        measured, bound = cast(float, one["measured"]), cast(float, one["upper_bound"])
        assert 0 < measured <= bound <= 2 * measured
        assert one["met"]
    assert 0 < availability(daemon) <= 1
    assert json.loads(daemon.certeus("sla", "--json").stdout)["met"] is True
    shown = daemon.text("/metrics")
    assert 'certeus_sla_met{objective="row_p99"} 1.0' in shown
    assert 'certeus_sla_measured_seconds{objective="ack_p99"}' in shown


def test_an_objective_that_cannot_be_met_is_missed_at_once(daemon: Daemon) -> None:
    reload(daemon, "[sla]\nack_p99_ms = 0.000001\nrow_p99_ms = 3600000\nwindow_s = 7200\n")
    found = objectives(daemon)
    assert (found["ack_p99"]["met"], found["row_p99"]["met"]) == (False, True)
    assert found["ack_p99"]["objective"] == 0.000001
    answer = daemon.get("/v1/sla")
    assert (answer["met"], answer["window_seconds"]) == (False, 7200)
    shown = daemon.certeus("sla").stdout.decode()
    (line,) = [line for line in shown.splitlines() if line.lstrip().startswith("ack_p99")]
    assert line.split()[-1] == "no"
    assert "over 2 h 0 min" in shown
    assert 'certeus_sla_met{objective="ack_p99"} 0.0' in daemon.text("/metrics")


def test_time_in_which_there_is_no_room_is_missing_in_the_availability(daemon: Daemon) -> None:
    daemon.config_path.write_text(
        f"[log]\nsegment_bytes = 4194304\ndisk_reserve_bytes = {1 << 60}\n"
    )
    daemon.certeus("reload")
    with certeus.connect(daemon.ingest, source="fills") as producer:

        def full() -> bool:
            with contextlib.suppress(certeus.RingFullError):
                while True:
                    producer.append_nowait("pad", "x" * 100_000)
            return "certeus_takes_events 0.0" in daemon.text("/metrics")

        wait_until("no room", full, 60.0)
        at_first = availability(daemon)
        wait_until("less", lambda: availability(daemon) < at_first)
        daemon.config_path.write_text("[sla]\navailability = 1.0\n")
        daemon.certeus("reload")
    wait_until("room", lambda: "certeus_takes_events 1.0" in daemon.text("/metrics"))
    found = objectives(daemon)
    assert found["availability"]["met"] is False
    counted = cast(int, found["ack_p99"]["samples"])
    assert counted >= EVENTS, "what was measured outlives the processes that counted it"
