"""A full log is back-pressure: producers wait, nothing is lost, and it goes on with room."""

import pytest

import certeus
from support.daemon import Daemon, scratch_dir
from support.waiting import wait_until

CONFIG = """
[log]
segment_bytes = 4194304
bytes_max = 12582912

[postgres]
dsn = "%s"
"""
AWAY = "postgresql://nobody@/none?host=/nonexistent"


def is_full(daemon: Daemon) -> bool:
    return "log-full" in [reason["code"] for reason in daemon.status()["reasons"]]


def append_until_full(producer: certeus.Producer) -> int:
    """Append until the ring has been full for a while; how many events that were."""
    for count in range(100_000):
        try:
            producer.append("t", {"n": count, "pad": "x" * 1000}, timeout=3.0)
        except certeus.RingFullError:
            return count
    raise AssertionError("a log of 12 MiB took 100 MB")


@pytest.mark.crash
@pytest.mark.integration
def test_full_log_lets_producers_wait_and_goes_on_when_postgres_is_back() -> None:
    with scratch_dir() as root:
        daemon = Daemon(root, CONFIG % AWAY)
        try:
            daemon.start()
            with certeus.connect(daemon.ingest, source="full") as producer:
                count = append_until_full(producer)
                wait_until("the reason", lambda: is_full(daemon))
                assert daemon.status()["state"] == "degraded"
                assert daemon.status()["log"]["bytes"] <= 12582912
                assert daemon.stop() == 0
                daemon.config_path.write_text(CONFIG % "")
                daemon.start()
                last = producer.append("t", {"n": count})
                producer.wait_durable(last, timeout=60.0)
                assert producer.statistics().accepted == count + 1
            daemon.certeus("wait", "--flushed", "--timeout", "60")
            assert daemon.status()["flushed_seq"] == count + 1
            wait_until("room", lambda: not is_full(daemon))
            assert daemon.stop() == 0
        finally:
            daemon.clean_up()
