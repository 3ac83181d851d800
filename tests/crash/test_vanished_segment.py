"""Somebody deletes the segment into which a running daemon writes."""

import json

import pytest

import certeus
from support.daemon import running
from support.waiting import wait_until

NO_POSTGRES = '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n'


@pytest.mark.crash
def test_a_segment_deleted_under_the_daemon_is_told_and_no_acknowledged_event_is_gone() -> None:
    with running(NO_POSTGRES) as daemon:
        with certeus.connect(daemon.ingest, source="rm") as producer:
            producer.wait_durable(producer.append_many("t", list(range(100))), timeout=60.0)
            listed = json.loads(daemon.certeus("log", "ls", "--json").stdout)["segments"]
            number = max(one["segment_no"] for one in listed if one["groups"])
            (daemon.state_dir / "log" / f"{number:020}.log").unlink()

            def told() -> bool:
                reasons = daemon.status()["reasons"]
                return any("deleted under us: it was put back" in one["what"] for one in reasons)

            wait_until("the reason", told)
            producer.wait_durable(producer.append_many("t", list(range(100, 120))), timeout=60.0)
        lines = daemon.certeus("tail", "-n", "1000", "--json").stdout.splitlines()
        events = [json.loads(line) for line in lines]
        assert [one["data"] for one in events if one.get("type") == "t"] == list(range(120))
        assert json.loads(daemon.certeus("log", "check", "--json").stdout)["ok"]
        assert daemon.stop() == 0
