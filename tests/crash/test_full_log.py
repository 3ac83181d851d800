"""A full log is back-pressure: producers wait, nothing is lost, and it goes on when there is room."""

import certeus
import pytest
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


@pytest.mark.crash
@pytest.mark.integration
def test_full_log_lets_producers_wait_and_goes_on_when_postgres_is_back() -> None:
    with scratch_dir() as root:
        daemon = Daemon(root, CONFIG % AWAY)
        try:
            daemon.start()
            with certeus.connect(daemon.ingest, source="full") as producer:
                count = 0
                with pytest.raises(certeus.RingFullError):
                    while count < 100_000:
                        producer.append("t", {"n": count, "pad": "x" * 1000}, timeout=5.0)
                        count += 1
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
