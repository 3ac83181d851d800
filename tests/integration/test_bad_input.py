"""Bad input, and what it gets: each line of the promise is a test."""

import grp
import json
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import certeus
from support.daemon import Daemon, running, scratch_dir
from support.waiting import wait_until

pytestmark = pytest.mark.integration

CONFIG = """
[limits]
depth_max = 8

[[ingest]]
path = "ingest.sock"
tenant = "default"
uids = [0, %d, %d]

[[ingest]]
path = "narrow.sock"
tenant = "narrow"
uids = [%d]
sources = ["sensor/*"]
"""
NOBODY = pwd.getpwnam("nobody").pw_uid


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    uid = os.getuid()
    with running(CONFIG % (uid, 65533, uid)) as daemon:
        yield daemon
        assert daemon.stop() == 0


def rejection_of(daemon: Daemon, data: bytes, **attributes: object) -> str:
    """Append good, bad, good; the reason word of the bad one. The session must go on."""
    with certeus.connect(daemon.ingest, source="bad-input") as producer:
        producer.append("t", {"good": 1})
        bad = producer.append("t", data, **attributes)  # type: ignore[arg-type]  # on purpose
        last = producer.append("t", {"good": 2})
        with pytest.raises(certeus.RejectedError) as caught:
            producer.wait_durable(last, timeout=30.0)
        assert [rejection.ticket for rejection in caught.value.rejections] == [bad]
        producer.wait_durable(last, timeout=30.0)
        receipt = producer.receipt(bad)
        assert receipt is not None
        assert receipt.verdict == "rejected"
        assert receipt.reason == caught.value.rejections[0].reason
        statistics = producer.statistics()
        assert (statistics.accepted, statistics.rejected) == (2, 1)
        return str(receipt.reason)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"a":', "invalid-json"),
        (b"{'a': 1}", "invalid-json"),
        (b'{"a":1}{"b":2}', "invalid-json"),
        (b"", "invalid-json"),
        (b'{"a":NaN}', "invalid-json"),
        (b'{"a":01}', "invalid-json"),
        (b'{"a":"\xff\xfe"}', "invalid-utf8"),
        (b'"\xed\xa0\x80"', "invalid-utf8"),
        (b'{"a":"\\u0000"}', "nul-character"),
        (b'{"a":"\\ud800"}', "lone-surrogate"),
        (b"[" * 9 + b"]" * 9, "too-deep"),
        (b'{"a":1e131073}', "number-out-of-range"),
        (b"9" * 131073, "number-out-of-range"),
    ],
)
def test_data_that_postgresql_cannot_hold_is_rejected_and_the_session_goes_on(
    daemon: Daemon, data: bytes, reason: str
) -> None:
    assert rejection_of(daemon, data) == reason


def test_same_id_with_other_content_is_rejected_as_id_conflict(daemon: Daemon) -> None:
    with certeus.connect(daemon.ingest, source="ids") as producer:
        first = producer.append("t", {"amount": 1}, id="o-17")
        again = producer.append("t", {"amount": 1}, id="o-17")
        other = producer.append("t", {"amount": 2}, id="o-17")
        with pytest.raises(certeus.RejectedError):
            producer.wait_durable(other, timeout=30.0)
        receipts = [producer.receipt(ticket) for ticket in (first, again, other)]
        assert [r.verdict for r in receipts if r] == ["accepted", "duplicate", "rejected"]
        assert receipts[0] and receipts[1] and receipts[2]  # noqa: PT018 - for the type checkers
        assert receipts[0].seq == receipts[1].seq
        assert receipts[2].reason == "id-conflict"


@pytest.mark.parametrize(
    ("keywords", "error"),
    [
        ({"data": {"x": float("nan")}}, ValueError),
        ({"data": b"x" * (1 << 20)}, ValueError),
        ({"data": {"x": object()}}, TypeError),
        ({"data": {}, "type": ""}, ValueError),
        ({"data": {}, "type": 7}, TypeError),
        ({"data": {}, "id": "x" * 256}, ValueError),
        ({"data": {}, "time": "yesterday"}, ValueError),
        ({"data": {}, "extensions": {"No": 1}}, ValueError),
        ({"data": {}, "extensions": {f"n{i}": 1 for i in range(33)}}, ValueError),
    ],
)
def test_what_the_caller_can_know_is_raised_at_once_and_nothing_is_appended(
    daemon: Daemon, keywords: dict[str, object], error: type[Exception]
) -> None:
    with certeus.connect(daemon.ingest, source="wrong") as producer:
        with pytest.raises(error):
            producer.append(**{"type": "t", **keywords})  # type: ignore[arg-type]  # on purpose
        assert producer.statistics().appended == 0
        assert producer.append("t", {}) == 1


def test_source_that_is_not_allowed_is_refused_at_hello_with_the_reason(daemon: Daemon) -> None:
    narrow = str(daemon.runtime_dir / "narrow.sock")
    with pytest.raises(certeus.ConnectError, match="source-not-allowed"):
        certeus.connect(narrow, source="checkout")
    with certeus.connect(narrow, source="sensor/7") as producer:
        producer.wait_durable(producer.append("t", {}), timeout=30.0)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_uid_that_is_not_allowed_is_refused_at_hello_with_the_reason(daemon: Daemon) -> None:
    program = (
        "import os, sys, certeus; from certeus import _native\n"
        f"os.setgroups([]); os.setgid({grp.getgrnam('nogroup').gr_gid}); os.setuid({NOBODY})\n"
        "try: certeus.connect(sys.argv[1], source='x')\n"
        "except certeus.ConnectError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, daemon.ingest], capture_output=True, text=True, check=True
    )
    assert "uid-not-allowed" in done.stdout


def test_second_daemon_on_the_same_state_directory_exits_75_and_names_the_holder(
    daemon: Daemon,
) -> None:
    assert daemon.process is not None
    done = subprocess.run(
        [*daemon.command()[:-1], str(daemon.root / "run2")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 75, done.stderr
    assert str(daemon.process.pid) in done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[postgres]\nbatch_rows_mx = 5\n", ["batch_rows_mx", "batch_rows_max"]),
        ("[postgrse]\ndsn = ''\n", ["postgrse", "postgres"]),
        ("[log]\nsegment_bytes = 'large'\n", ["segment_bytes"]),
        ("[log\n", ["line 1"]),
    ],
)
def test_bad_configuration_exits_78_with_file_key_and_nearest_key(
    text: str, words: list[str]
) -> None:
    with scratch_dir() as root:
        daemon = Daemon(root, text)
        done = subprocess.run(daemon.command(), capture_output=True, text=True, check=False)
        assert done.returncode == 78, done.stderr
        for word in [*words, str(daemon.config_path)]:
            assert word in done.stderr


def test_malformed_lines_are_told_by_number_and_the_rest_goes_on(daemon: Daemon) -> None:
    lines = b'{"a":1}\n{"a":\n{"a":2}\n[1]\n'
    done = daemon.certeus("append", "--json", stdin=lines, code=1)
    summary = json.loads(done.stdout)
    assert (summary["appended"], summary["rejected"], summary["duplicates"]) == (2, 2, 0)
    told = done.stderr.decode()
    assert "line 2" in told
    assert "line 4" in told


def test_postgres_away_keeps_events_durable_and_says_since_when() -> None:
    with running() as daemon:
        with certeus.connect(daemon.ingest, source="away") as producer:
            producer.wait_durable(producer.append("t", {"n": 0}), timeout=30.0)
            daemon.certeus("wait", "--flushed", "--timeout", "60")
            pids = daemon.pids("postgres")
            daemon.kill("postgres", signal.SIGSTOP)
            try:
                producer.wait_durable(producer.append("t", {"n": 1}), timeout=30.0)
            finally:
                for pid in pids:
                    os.kill(pid, signal.SIGCONT)
        daemon.certeus("wait", "--flushed", "--timeout", "60")
        state_dir: Path = daemon.state_dir
        assert list(state_dir.glob("log/*.log"))
        wait_until("ready again", lambda: daemon.status()["state"] == "ready")
        assert daemon.stop() == 0
