"""Starts on what is not a log, and on a large one: never a crash loop, never silent, soon there.

PostgreSQL is away in all of them, so that everything acknowledged is still unflushed.
"""

import json
import os
import random
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import certeus
from support.attack import Attack, Outcome
from support.daemon import Daemon, scratch_dir
from support.waiting import wait_until

AWAY = "postgresql://nobody@/none?host=/nonexistent"
CONFIG = f"""
[log]
segment_bytes = 4194304

[postgres]
dsn = "{AWAY}"
"""
LARGE = f"""
[log]
bytes_max = 8589934592
disk_reserve_bytes = 0

[postgres]
dsn = "{AWAY}"
"""
EVENTS = 40


def segment(daemon: Daemon, number: int) -> Path:
    return daemon.state_dir / "log" / f"{number:020}.log"


def numbers(daemon: Daemon) -> list[int]:
    names = [path.stem for path in (daemon.state_dir / "log").glob(f"{'[0-9]' * 20}.log")]
    return sorted(int(name) for name in names)


def append(daemon: Daemon, count: int) -> int:
    """Append, wait until all is durable, and return the last number."""
    with certeus.connect(daemon.ingest, source="start") as producer:
        ticket = producer.append_many("t", ({"n": number} for number in range(count)))
        producer.wait_durable(ticket, timeout=60.0)
        return producer.receipt(ticket).seq


def reason(daemon: Daemon, code: str) -> dict[str, str] | None:
    found: list[dict[str, str]] = daemon.status()["reasons"]
    return next((one for one in found if one["code"] == code), None)


def log_process(daemon: Daemon) -> dict[str, Any]:
    found: list[dict[str, Any]] = daemon.status()["processes"]
    return next(one for one in found if one["name"] == "log")


def make_directory(path: Path) -> None:
    path.mkdir()


def make_link(path: Path) -> None:
    path.symlink_to(path.parent / "LOCK")


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


SEGMENT, SIDECAR = f"{99:020}.log", f"{0:020}.keys"
OBSTACLES: list[tuple[Callable[[Path], None], str]] = [
    (make_directory, SEGMENT),
    (make_link, SEGMENT),
    (make_pipe, SEGMENT),
    (make_directory, SIDECAR),
]


@pytest.mark.crash
@pytest.mark.timeout(300)
def test_what_only_a_human_can_move_is_told_and_ends_no_process(attack: Attack) -> None:
    with scratch_dir() as root:
        daemon = Daemon(root, CONFIG)
        try:
            daemon.start()
            last = append(daemon, EVENTS)
            for make, name in OBSTACLES:
                daemon.kill("all")
                path = daemon.state_dir / "log" / name
                make(path)
                daemon.start(ready=False)

                def told(path: Path = path) -> bool:
                    found = reason(daemon, "log-blocked") if daemon.answers() else None
                    return found is not None and str(path) in found["what"] and bool(found["next"])

                wait_until(f"the reason for {name}", told)
                status = daemon.status()
                assert status["state"] == "recovering"
                assert status["recovery"]["phase"] in ("looking", "reading")
                before = log_process(daemon)
                assert before["pid"] is not None
                assert (before["restarts"], before["crash_loop"]) == (0, False)
                path.rmdir() if path.is_dir() else path.unlink()
                wait_until("a start that goes on by itself", daemon.takes_events)
                assert log_process(daemon)["pid"] == before["pid"]
                assert reason(daemon, "log-blocked") is None
                assert "recovery" not in daemon.status() or daemon.status()["recovery"] is None
                last += 1
                assert append(daemon, 1) == last
            cases = len(OBSTACLES)
            attack.report(Outcome("obstacles in the log's directory", cases, last))
        finally:
            daemon.clean_up()


def garbage(path: Path, rng: random.Random) -> None:
    path.write_bytes(rng.randbytes(9000))


def empty(path: Path, rng: random.Random) -> None:
    path.write_bytes(b"")


def short(path: Path, rng: random.Random) -> None:
    path.write_bytes(b"certeusL" + rng.randbytes(rng.randrange(1, 4000)))


def text_name(path: Path, rng: random.Random) -> None:
    path.with_name("12.log").write_bytes(rng.randbytes(100))
    path.with_name(f"{'x' * 20}.log").mkdir()


def zeros(path: Path, rng: random.Random) -> None:
    path.write_bytes(bytes(5000))


def copied(path: Path, rng: random.Random) -> None:
    first = sorted(path.parent.glob("0*.log"))[0]
    shutil.copy(first, path)


STRAY: list[Callable[[Path, random.Random], None]] = [
    garbage, empty, short, text_name, zeros, copied,
]  # fmt: skip


@pytest.mark.crash
@pytest.mark.timeout(300)
def test_stray_files_with_names_of_segments_cost_no_event(attack: Attack) -> None:
    with scratch_dir() as root:
        daemon = Daemon(root, CONFIG)
        try:
            daemon.start()
            last = append(daemon, EVENTS)
            for make in STRAY:
                daemon.kill("all")
                make(segment(daemon, numbers(daemon)[-1] + 2), attack.rng)
                daemon.start()
                assert not log_process(daemon)["restarts"], make.__name__
                last += 1
                assert append(daemon, 1) == last, make.__name__
                done = daemon.certeus("tail", "-n", str(last + 9), "--json")
                seqs = [json.loads(line)["seq"] for line in done.stdout.splitlines()]
                assert seqs == list(range(1, last + 1)), make.__name__
            aside = [path.name for path in (daemon.state_dir / "log").glob("*.aside-*")]
            assert len(aside) == 1, aside
            attack.report(Outcome("stray files in the log's directory", len(STRAY), last))
        finally:
            daemon.clean_up()


def write_large(daemon: Daemon, log_bytes: int, ids: int) -> int:
    """Fill the log; with `ids`, that many events bear one. Returns the last number."""
    count = 0
    with certeus.connect(daemon.ingest, source="large", ring_bytes=16 << 20) as producer:
        last, pad = 0, "x" * 1000
        while count < ids:
            rows = ({"n": number} for number in range(count, count + 10_000))
            for row in rows:
                producer.append("t", row, id=str(row["n"]), timeout=60.0)
            count += 10_000
        while daemon.status()["log"]["bytes"] < log_bytes:
            last = producer.append_many("t", ({"n": at, "pad": pad} for at in range(10_000)))
            count += 10_000
        producer.wait_durable(last, timeout=120.0)
    return count


def hello_answered(daemon: Daemon) -> bool:
    try:
        certeus.connect(daemon.ingest, source="hello", timeout=0.05).close()
    except (certeus.ConnectError, OSError, TimeoutError):
        return False
    return True


def times_of_a_start(daemon: Daemon) -> tuple[float, float]:
    """Seconds until the control API answers, and until a producer's hello is answered."""
    began = time.monotonic()
    daemon.start(ready=False)
    wait_until("the control API", lambda: daemon.answers())
    control = time.monotonic() - began
    wait_until("a hello", lambda: hello_answered(daemon))
    return control, time.monotonic() - began


@pytest.mark.crash
@pytest.mark.full
@pytest.mark.timeout(900)
@pytest.mark.parametrize("ids", [0, 2_000_000], ids=["1 GiB", "1 GiB with 2 M ids"])
def test_a_start_with_a_large_unflushed_log_says_how_long_it_took(
    ids: int, attack: Attack, capsys: pytest.CaptureFixture[str]
) -> None:
    with scratch_dir() as root:
        daemon = Daemon(root, LARGE)
        try:
            daemon.start()
            count = write_large(daemon, 1 << 30, ids)
            cases = 0
            for what in ("as it is", "again", "without its newest sidecars"):
                daemon.kill("all")
                if what.startswith("without"):
                    sidecars = sorted((daemon.state_dir / "log").glob("*.keys"))
                    # The newest one may be of a few groups: with it goes one of a whole segment.
                    for sidecar in sidecars[-2:]:
                        sidecar.unlink()
                control, hello = times_of_a_start(daemon)
                wait_until("all of it", lambda: daemon.status()["durable_seq"] == count)
                recovery = daemon.status()["reports"]["recovery"]
                cases += 1
                with capsys.disabled():
                    print(
                        f"\n1 GiB unflushed, {ids} ids, {what}: control API {control:.2f} s,"
                        f" hello {hello:.2f} s, log writer {recovery['seconds']} s,"
                        f" groups read {recovery['groups_read']}"
                    )
            attack.report(Outcome(f"start with 1 GiB unflushed, {ids} ids", cases, count))
        finally:
            daemon.clean_up()


@pytest.mark.crash
@pytest.mark.timeout(120)
def test_the_control_api_answers_before_anything_else_is_started(attack: Attack) -> None:
    with scratch_dir() as root:
        daemon = Daemon(root, CONFIG)
        try:
            # The log writer is held in its very first step.
            (daemon.state_dir / "log").mkdir(parents=True)
            (daemon.state_dir / "log" / "00000000000000000001.log").mkdir()
            daemon.start(ready=False)
            wait_until("an answer", lambda: daemon.answers())
            status = daemon.status()
            assert status["state"] in ("starting", "recovering")
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as producer:
                producer.connect(daemon.ingest)
            wait_until("the reason", lambda: reason(daemon, "log-blocked") is not None)
            attack.report(Outcome("control API while nothing can be written", 1))
        finally:
            daemon.clean_up()
