"""Standard error takes nothing: the daemon works, and each process counts what it dropped."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from prometheus_client.parser import text_string_to_metric_families

import certeus
from certeusd.doors import DOORS
from support.daemon import Daemon, scratch_dir
from support.waiting import wait_until

pytestmark = pytest.mark.integration

AWAY = '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n'


class Unheard(Daemon):
    """Its standard error is a full pipe, until somebody reads."""

    def start(self, *, ready: bool = True, timeout: float = 60.0) -> Daemon:
        self.reader, writer = os.pipe()
        os.set_blocking(writer, False)
        try:
            while True:
                os.write(writer, b"\n")
        except BlockingIOError:
            os.set_blocking(writer, True)
        with open(writer, "wb") as end:
            self.process = subprocess.Popen(
                self.command(), stdout=end, stderr=end, stdin=subprocess.DEVNULL, env=self.env
            )
        if ready:
            wait_until("daemon that takes events", self.takes_events, timeout)
        return self

    def dropped(self) -> dict[str, float]:
        """Lines that each process has dropped; there are no doors."""
        (family,) = (
            family
            for family in text_string_to_metric_families(self.text("/metrics"))
            if family.name == "certeus_log_lines_dropped"
        )
        found = {sample.labels["role"]: sample.value for sample in family.samples}
        return {role: count for role, count in found.items() if role not in DOORS}

    def read(self) -> str:
        os.set_blocking(self.reader, False)
        text = b""
        try:
            while data := os.read(self.reader, 1 << 16):
                text += data
        except BlockingIOError:
            pass
        return text.decode().strip()


@pytest.fixture
def daemon() -> Iterator[Unheard]:
    with scratch_dir() as root, ExitStack() as stack:
        made = Unheard(root, AWAY)
        made.start()
        stack.callback(os.close, made.reader)
        stack.callback(made.clean_up)
        yield made


def test_a_log_that_nobody_reads_stops_nobody_and_every_process_counts(daemon: Unheard) -> None:
    with certeus.connect(daemon.ingest, source="unheard") as producer:
        producer.wait_durable(producer.append("t", {"n": 1}), timeout=30.0)
    wait_until("lines dropped by each", lambda: all(daemon.dropped().values()))
    before = daemon.dropped()
    assert set(before) == {"supervisor", "log", "flush", "worker"}
    daemon.kill("log")
    # The page outlives the process that counts in it.
    wait_until("lines of the next life", lambda: daemon.dropped()["log"] > before["log"])
    assert daemon.read() == ""
    daemon.certeus("log-level", "info")
    assert '"lines_dropped": ' in wait_until("a line", daemon.read)
    assert daemon.stop() == 0
