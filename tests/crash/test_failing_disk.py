"""The disk of the log fails, or is made read-only, under a real daemon: told, and it comes back."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest

import certeus
from support.daemon import Daemon, running, scratch_dir
from support.power import PowerCutDisk, power_cut_disk
from support.waiting import wait_until

NO_POSTGRES = '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n'
SMALL = '[log]\nsegment_bytes = "4MiB"\nbytes_max = "64MiB"\ndisk_reserve_bytes = 0\n'

pytestmark = [
    pytest.mark.crash,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to mount a file system of its own"),
]


@contextlib.contextmanager
def memory_disk(path: Path) -> Generator[None]:
    """A file system of its own at `path`, for the log alone."""
    path.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m", "certeus", path], check=True)
    try:
        yield
    finally:
        wait_until("unmounted", lambda: run("umount", str(path)))


@contextlib.contextmanager
def on_a_disk_of_its_own() -> Generator[tuple[Daemon, PowerCutDisk]]:
    """A daemon whose log has a disk that fails on demand, with a hundred events."""
    with scratch_dir() as root, power_cut_disk(256) as disk:
        daemon = Daemon(root, NO_POSTGRES + SMALL)
        daemon.state_dir.mkdir(mode=0o711)
        (daemon.state_dir / "log").symlink_to(disk.path)
        try:
            daemon.start()
            append(daemon, 0, 100)
            yield daemon, disk
            assert daemon.stop() == 0
        finally:
            daemon.clean_up()


def run(*command: str) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def make_read_only(daemon: Daemon, path: Path) -> None:
    def is_read_only() -> bool:
        # Nobody may have a file open for writing while it is made so.
        for pid in daemon.pids("log"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return run("mount", "-o", "remount,ro", str(path))

    wait_until("read-only file system", is_read_only)


def codes(daemon: Daemon) -> dict[str, str]:
    return {reason["code"]: reason["what"] for reason in daemon.status()["reasons"]}


def since(daemon: Daemon, code: str) -> str | None:
    found = (reason["since"] for reason in daemon.status()["reasons"] if reason["code"] == code)
    return next(found, None)


def append(daemon: Daemon, first: int, count: int) -> None:
    with certeus.connect(daemon.ingest, source="disk") as producer:
        last = producer.append_many("t", [{"n": n} for n in range(first, first + count)])
        producer.wait_durable(last, timeout=60.0)


def logged(daemon: Daemon) -> list[int]:
    lines = daemon.certeus("tail", "-n", "100000", "--json").stdout.splitlines()
    events = [json.loads(line) for line in lines]
    return [event["data"]["n"] for event in events if event.get("type") == "t"]


def test_a_read_only_file_system_is_told_and_writable_again_it_goes_on_by_itself() -> None:
    with scratch_dir() as root:
        log = root / "state" / "log"
        with memory_disk(log):
            daemon = Daemon(root, NO_POSTGRES + SMALL)
            try:
                daemon.start()
                append(daemon, 0, 100)

                with certeus.connect(daemon.ingest, source="disk") as producer:
                    make_read_only(daemon, log)
                    wait_until("the reason", lambda: "log-read-only" in codes(daemon))
                    assert "file system is read-only" in codes(daemon)["log-read-only"]
                    assert 'certeus_reason{code="log-read-only"} 1.0' in daemon.text("/metrics")
                    ticket = producer.append("t", {"n": 100})
                    with pytest.raises(TimeoutError):
                        producer.wait_durable(ticket, timeout=1.5)
                    assert run("mount", "-o", "remount,rw", str(log))
                    producer.wait_durable(ticket, timeout=60.0)
                wait_until("no reason any more", lambda: "log-read-only" not in codes(daemon))
                assert logged(daemon) == list(range(101))
                assert daemon.stop() == 0
            finally:
                daemon.clean_up()


def test_a_disk_that_fails_ends_the_log_writer_and_its_restart_is_the_only_retry() -> None:
    with on_a_disk_of_its_own() as (daemon, disk):
        with certeus.connect(daemon.ingest, source="disk") as producer:
            disk.cut()
            ticket = producer.append("t", {"n": 100})
            wait_until("the reason", lambda: "log-failed" in codes(daemon))
            assert "Input/output error" in codes(daemon)["log-failed"]
            told = since(daemon, "log-failed")
            ends = '"code": 74'
            wait_until("an exit code of its own", lambda: ends in daemon.log_tail(400))
            wait_until("another one", lambda: daemon.log_tail(1000).count(ends) > 1)
            assert since(daemon, "log-failed") == told is not None, "it outlives who told it"
            with pytest.raises(TimeoutError):
                producer.wait_durable(ticket, timeout=1.0)
            disk.unmount()
            disk.mount()
            producer.wait_durable(ticket, timeout=60.0)
        wait_until("no reason any more", lambda: "log-failed" not in codes(daemon))
        assert logged(daemon) == list(range(101))


def test_a_log_whose_disk_is_not_mounted_is_waited_for_and_none_is_begun_in_its_place() -> None:
    with on_a_disk_of_its_own() as (daemon, disk):
        with certeus.connect(daemon.ingest, source="disk") as producer:
            disk.cut()
            ticket = producer.append("t", {"n": 100})
            wait_until("an end", lambda: '"code": 74' in daemon.log_tail(400))
            disk.unmount()
            wait_until("the reason", lambda: "log-missing" in codes(daemon))
            log_id = daemon.status()["log_id"]
            what = f"log {log_id} is not in {daemon.state_dir / 'log'}: there is none"
            assert codes(daemon)["log-missing"] == what
            with pytest.raises(TimeoutError):
                producer.wait_durable(ticket, timeout=2.0)
            disk.mount()
            producer.wait_durable(ticket, timeout=60.0)
        wait_until("no reason any more", lambda: "log-missing" not in codes(daemon))
        assert logged(daemon) == list(range(101))

        # The same at the start of the whole daemon.
        assert daemon.stop() == 0
        disk.unmount()
        daemon.start(ready=False)
        wait_until("the reason", lambda: daemon.answers() and "log-missing" in codes(daemon))
        assert not daemon.takes_events()
        assert not list(disk.path.glob("*.log"))
        disk.mount()
        wait_until("a start that goes on by itself", daemon.takes_events)
        append(daemon, 101, 1)
        assert logged(daemon) == list(range(102))


def test_another_log_is_not_taken_for_this_one_until_somebody_says_so() -> None:
    with running(NO_POSTGRES + SMALL) as other, running(NO_POSTGRES + SMALL) as daemon:
        append(other, 0, 10)
        append(daemon, 10, 10)
        assert (other.stop(), daemon.stop()) == (0, 0)
        shutil.rmtree(daemon.state_dir / "log")
        shutil.copytree(other.state_dir / "log", daemon.state_dir / "log")
        copied = {path.name: path.read_bytes() for path in (daemon.state_dir / "log").iterdir()}
        daemon.start(ready=False)
        wait_until("the reason", lambda: daemon.answers() and "log-missing" in codes(daemon))
        assert "there is log" in codes(daemon)["log-missing"]
        daemon.kill("all")
        found = {path.name: path.read_bytes() for path in (daemon.state_dir / "log").iterdir()}
        del copied["LOCK"], found["LOCK"]
        assert found == copied
        (daemon.state_dir / "log.id").unlink()
        daemon.start()
        assert logged(daemon) == list(range(10))
        assert daemon.stop() == 0
