"""The supervisor over fake children: joining, replacing, ending."""

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import psutil
import pytest

from certeusd.config import CpuSection
from certeusd.control.client import Json
from certeusd.exits import Exit, ExitError
from certeusd.supervisor import memory, topology
from certeusd.supervisor.pinning import plan
from support.supervised import PATIENCE_S, Daemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    running = Daemon(tmp_path)
    yield running
    running.end()


def attached_are(name: str, workers: list[int]) -> Callable[[Daemon], bool]:
    return lambda daemon: daemon.reports()[name]["attached"] == workers


def runs_on(pid: int, cpus: Set[int]) -> Callable[[Daemon], bool]:
    return lambda _: os.sched_getaffinity(pid) == cpus


def gone(pid: int) -> bool:
    """Whether a process is no more, waiting for it."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], PATIENCE_S)[0])
    finally:
        os.close(pidfd)


def test_children_get_what_is_theirs_and_nothing_else(daemon: Daemon) -> None:
    daemon.until_joined()
    reports = daemon.reports()
    assert {name: report["given"] for name, report in reports.items()} == {
        "worker-0": 2,
        "worker-1": 2,
        "log-0": 2,
        "flush-0": 2,
    }
    assert {report["inherited"] for report in reports.values()} == {4}, "stdio and the channel"
    assert all(report["session"] == report["pid"] for report in reports.values())
    assert reports["flush-0"]["dsn"] == "postgresql://u:geheim@127.0.0.1:1/none"
    assert reports["log-0"]["dsn"] is None


def test_hot_processes_run_where_the_plan_says_and_the_rest_beside_them(tmp_path: Path) -> None:
    allowed = os.sched_getaffinity(0)
    planned = plan(topology.read(), allowed, CpuSection(pin="on"), 1)
    running = Daemon(tmp_path, workers=1, cpu="pin = 'on'")
    try:
        running.until_joined(workers=1)
        status = running.status()
        rows = [*cast(list[Json], status["workers"]), *cast(list[Json], status["processes"])]
        wanted = {"worker-0": planned.worker[0], "log": planned.log, "flush": planned.flush}
        assert {row["name"]: row["cpu"] for row in rows} == wanted
        for row in rows:
            pid, cpu = cast(int, row["pid"]), cast(int | None, row["cpu"])
            cpus = planned.rest if cpu is None else {cpu}
            running.until(runs_on(pid, cpus))
        for report in running.reports().values():
            helper = cast(int, report["helper"])
            assert os.sched_getaffinity(helper) == planned.rest, "a thread from before Ready"
        assert os.sched_getaffinity(running.process.pid) == planned.rest
    finally:
        told = running.end()
    assert told.count("cpus_planned") == 1


def test_nobody_runs_outside_of_the_cpus_that_are_named(tmp_path: Path) -> None:
    cpu = max(os.sched_getaffinity(0))
    running = Daemon(tmp_path, workers=1, cpu=f"cpus = '{cpu}'")
    try:
        running.until_joined(workers=1)
        pids = [running.process.pid, *(running.pid(name) for name in running.reports())]
        assert {frozenset(os.sched_getaffinity(pid)) for pid in pids} == {frozenset({cpu})}
    finally:
        running.end()


def test_a_cpu_that_is_not_allowed_ends_the_start_with_its_key(tmp_path: Path) -> None:
    running = Daemon(tmp_path, cpu="cpus = '8191'")
    _, message = running.process.communicate(timeout=PATIENCE_S)
    assert running.process.returncode == Exit.CONFIGURATION
    assert 'cannot use cpu.cpus = "8191": 8191 is not allowed here' in message


def test_state_is_degraded_with_what_the_log_writer_told(daemon: Daemon) -> None:
    daemon.until(lambda it: it.status()["state"] == "degraded")
    reasons = cast(list[Json], daemon.status()["reasons"])
    assert [(r["code"], r["what"], r["next"]) for r in reasons] == [
        ("log-full", "no room", "make some")
    ]


def test_dead_worker_is_replaced_and_the_others_go_on(daemon: Daemon) -> None:
    daemon.until_joined()
    log, other = daemon.pid("log-0"), daemon.pid("worker-1")
    dead = daemon.pid("worker-0")
    daemon.kill("worker-0")
    daemon.until(lambda it: it.pid("worker-0") != dead and it.reports()["worker-0"]["attached"])
    daemon.until(lambda it: it.reports()["log-0"]["attached"] in ([0, 1, 0], [1, 0, 0]))
    reports = daemon.reports()
    assert reports["log-0"]["detached"] == [0]
    assert (reports["worker-1"]["attached"], reports["worker-1"]["detached"]) == ([1], [])
    assert (daemon.pid("log-0"), daemon.pid("worker-1")) == (log, other)


def test_dead_log_writer_parts_all_workers_and_joins_them_again(daemon: Daemon) -> None:
    daemon.until_joined()
    workers = [daemon.pid("worker-0"), daemon.pid("worker-1")]
    daemon.kill("log-0")
    for name, index in (("worker-0", 0), ("worker-1", 1)):
        daemon.until(attached_are(name, [index, index]))
        assert daemon.reports()[name]["detached"] == [index]
    daemon.until(lambda it: sorted(cast(list[int], it.reports()["log-0"]["attached"])) == [0, 1])
    assert workers == [daemon.pid("worker-0"), daemon.pid("worker-1")]


def test_child_without_progress_becomes_a_crash_loop_and_is_still_tried(daemon: Daemon) -> None:
    daemon.until_joined()
    order = daemon.directory / "worker-0"
    order.write_text("die")
    daemon.kill("worker-0")

    def codes(it: Daemon) -> list[object]:
        return [reason["code"] for reason in cast(list[Json], it.status()["reasons"])]

    daemon.until(lambda it: "crash-loop" in codes(it))
    daemon.until(lambda it: it.status()["state"] == "degraded")
    order.unlink()
    daemon.until(lambda it: it.reports()["worker-0"]["attached"] and "crash-loop" not in codes(it))


def test_killed_supervisor_takes_every_child_along(daemon: Daemon) -> None:
    daemon.until_joined()
    # One that never looks at its channel: only the kernel can tell it.
    (daemon.directory / "flush-0").write_text("deaf")
    hearing = daemon.pid("flush-0")
    daemon.kill("flush-0")
    daemon.until(lambda it: it.pid("flush-0") != hearing)
    pids = [cast(int, report["pid"]) for report in daemon.reports().values()]
    daemon.process.kill()
    assert daemon.process.wait() == -signal.SIGKILL
    assert all(gone(pid) for pid in pids)


def test_start_right_after_a_kill_works(daemon: Daemon) -> None:
    daemon.until_joined()
    for _ in range(3):
        old = daemon.process
        old.kill()
        old.communicate()
        daemon.process = daemon.start()
        daemon.until_joined()


def test_second_daemon_on_a_state_directory_is_told_the_pid(daemon: Daemon) -> None:
    daemon.until_joined()
    second = daemon.start()
    _, message = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == Exit.TRY_AGAIN
    assert f"in use by pid {daemon.process.pid}" in message


def test_sigterm_drains_workers_then_log_then_flusher(daemon: Daemon) -> None:
    daemon.until_joined()
    daemon.process.send_signal(signal.SIGTERM)
    _, message = daemon.process.communicate(timeout=PATIENCE_S)
    assert daemon.process.returncode == 0, message
    order = (daemon.directory / "drained").read_text().split()
    assert sorted(order[:2]) == ["worker-0", "worker-1"]
    assert order[2:] == ["log-0", "flush-0"]
    assert [name.name for name in (daemon.directory / "run").iterdir()] == ["lock"]
    assert "geheim" not in message


def test_a_door_settles_before_its_workers_end(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, api=True)
    try:
        daemon.until_joined()
        daemon.until(lambda daemon: "api-0" in daemon.reports())
        daemon.process.send_signal(signal.SIGTERM)
        _, message = daemon.process.communicate(timeout=PATIENCE_S)
        assert daemon.process.returncode == 0, message
        assert (daemon.directory / "drained").read_text().split()[0] == "api-0"
    finally:
        daemon.end()


def test_drain_by_the_api_ends_the_daemon(daemon: Daemon) -> None:
    daemon.until_joined()
    assert daemon.client.post("/v1/drain")["done"] == "draining"
    _, message = daemon.process.communicate(timeout=PATIENCE_S)
    assert daemon.process.returncode == 0, message


def test_child_that_does_not_drain_is_killed(daemon: Daemon) -> None:
    daemon.until_joined()
    (daemon.directory / "worker-1").write_text("stubborn")
    daemon.process.send_signal(signal.SIGTERM)
    _, message = daemon.process.communicate(timeout=PATIENCE_S)
    assert daemon.process.returncode == 0
    assert "child_killed" in message


def test_gauges_end_with_the_life_of_who_wrote_them(daemon: Daemon) -> None:
    daemon.until_joined()
    (daemon.directory / "worker-0").write_text("gauge")
    before = daemon.pid("worker-0")
    daemon.kill("worker-0")
    # It shows its gauges before it says who it is.
    daemon.until(lambda it: it.status()["sessions"] == 5 and it.pid("worker-0") != before)
    (daemon.directory / "worker-0").unlink()
    daemon.kill("worker-0")
    daemon.until(lambda it: it.status()["sessions"] == 0)


def test_commits_that_stand_still_and_a_log_without_room_are_told(daemon: Daemon) -> None:
    """The fake log writer has accepted seven events and never syncs one; its process is well."""
    (daemon.directory / "log-0").write_text("full")
    daemon.until_joined()
    daemon.kill("log-0")

    def told(it: Daemon, code: str, what: str) -> bool:
        reasons = cast(list[Json], it.status()["reasons"])
        return any(r["code"] == code and what in str(r["what"]) for r in reasons)

    daemon.until(lambda it: told(it, "log-full", "producers wait"))
    daemon.until(lambda it: told(it, "log-stalled", "no sync has returned, durable seq 0"))
    assert daemon.status()["state"] == "degraded"
    (daemon.directory / "log-0").unlink()


def test_wait_tells_what_was_not_reached(daemon: Daemon) -> None:
    daemon.until_joined()
    with pytest.raises(ExitError) as error:
        daemon.client.get("/v1/wait", until="durable", timeout_s="0")
    assert error.value.code is Exit.TRY_AGAIN
    assert "wanted seq 7, durable 0" in str(error.value)
    assert daemon.client.get("/v1/wait", until="ready", timeout_s="0")["until"] == "ready"
    with pytest.raises(ExitError, match="wanted seq 7, durable 0, flushed 0"):
        daemon.client.get("/v1/wait", until="flushed", timeout_s="0")


def test_control_socket_is_never_open_to_all(daemon: Daemon) -> None:
    daemon.until_joined()
    run = daemon.directory / "run"
    assert oct((run / "control.sock").stat().st_mode & 0o777) == "0o660"
    assert oct((run / "ingest.sock").stat().st_mode & 0o777) == "0o666"
    assert oct((daemon.directory / "state" / "keys").stat().st_mode & 0o777) == "0o700"
    assert len((daemon.directory / "state" / "keys" / "log.key").read_bytes()) == 32


def test_shared_memory_has_no_name() -> None:
    before = set(os.listdir("/dev/shm"))
    descriptor = memory.shared_memory(1 << 20)
    try:
        assert os.fstat(descriptor).st_size == 1 << 20
        assert not {n for n in set(os.listdir("/dev/shm")) - before if n.startswith("certeus")}
        assert not os.get_inheritable(descriptor)
    finally:
        os.close(descriptor)


def test_the_first_answer_waits_for_no_arrays() -> None:
    modules = "supervisor.supervisor", "worker.__main__", "log.__main__", "flush.__main__"
    for module in modules:
        looking = f"import certeusd.{module}, sys; print('numpy' in sys.modules)"
        answer = subprocess.run(
            [sys.executable, "-P", "-c", looking], capture_output=True, text=True, check=True
        )
        assert answer.stdout.strip() == "False", module


def test_followers_are_listed_and_forgotten_through_the_daemon(daemon: Daemon) -> None:
    daemon.until(lambda it: it.status()["state"] == "degraded")
    folder = daemon.directory / "state" / "followers"
    (folder / "relay").write_text('{"group": 1, "seq": 2, "root": "%s"}' % ("00" * 32))

    def names() -> list[object]:
        answer = daemon.client.get("/v1/followers")
        assert answer["schema_version"] == 1
        return [row["name"] for row in cast(list[Json], answer["followers"])]

    assert names() == ["postgres", "relay"]
    for name, what in (("postgres", "nowhere but in the log"), ("../lock", "no such follower")):
        with pytest.raises(ExitError, match=what) as refused:
            daemon.client.post("/v1/followers-forget", name=name)
        assert refused.value.code is Exit.FAILED
    assert daemon.client.post("/v1/followers-forget", name="relay")["done"] == (
        "follower relay forgotten"
    )
    assert names() == ["postgres"]
    assert not list(folder.iterdir())


def test_a_reload_ends_when_the_next_child_is_ready(daemon: Daemon) -> None:
    daemon.until_joined()
    old = daemon.pid("flush-0")
    (daemon.directory / "flush-0").write_text("late")
    config = Path(daemon.config)
    config.write_text(config.read_text().replace("[postgres]\n", "[postgres]\nbatch_ms = 99\n"))
    answer = daemon.client.post("/v1/reload", wait_s=PATIENCE_S)
    assert (answer["changed"], answer["restarted"]) == (["postgres.batch_ms"], ["flush"])
    _, flush = cast(list[Json], daemon.status()["processes"])
    assert flush["ready"]
    assert flush["pid"] != old
    assert flush["restarts"] == 0


def test_only_one_reload_at_a_time(daemon: Daemon) -> None:
    daemon.until_joined()
    for name in ("flush-0", "worker-0", "worker-1"):
        (daemon.directory / name).write_text("late")
    config = Path(daemon.config)
    config.write_text(config.read_text().replace("[postgres]\n", "[postgres]\nbatch_ms = 99\n"))
    with ThreadPoolExecutor() as pool:
        first = pool.submit(daemon.client.post, "/v1/reload", PATIENCE_S)
        daemon.until(lambda daemon: not cast(list[Json], daemon.status()["processes"])[1]["ready"])
        for order in ("/v1/reload", "/v1/flush-pause"):
            with pytest.raises(ExitError, match="a reload or a restart") as refused:
                daemon.client.post(order)
            assert refused.value.code is Exit.TRY_AGAIN
        assert first.result()["restarted"] == ["flush"]


def test_a_resume_that_nothing_was_paused_for_starts_no_second_flusher(daemon: Daemon) -> None:
    daemon.until_joined()
    (daemon.directory / "flush-0").write_text("die")
    daemon.kill("flush-0")

    def crashes(daemon: Daemon) -> bool:
        return bool(cast(list[Json], daemon.status()["processes"])[1]["crash_loop"])

    daemon.until(crashes)
    for _ in range(20):
        with pytest.raises(ExitError, match="not paused"):
            daemon.client.post("/v1/flush-resume")
    (daemon.directory / "flush-0").unlink()
    daemon.until(lambda daemon: cast(list[Json], daemon.status()["processes"])[1]["ready"])
    children = psutil.Process(daemon.process.pid).children()
    assert len(children) == 4  # log, two workers, one flusher


def test_a_pause_ends_the_flusher_and_a_resume_starts_one(daemon: Daemon) -> None:
    daemon.until_joined()
    daemon.client.post("/v1/flush-pause", PATIENCE_S)
    _, flush = cast(list[Json], daemon.status()["processes"])
    assert (flush["pid"], flush["ready"]) == (None, False)
    daemon.client.post("/v1/flush-resume")
    daemon.until(lambda daemon: cast(list[Json], daemon.status()["processes"])[1]["ready"])
    _, flush = cast(list[Json], daemon.status()["processes"])
    assert flush["restarts"] == 0


def producers(daemon: Daemon) -> tuple[list[str], list[str]]:
    """Worker and source of every row, and who did not answer."""
    answer = daemon.client.get("/v1/producers")
    rows = [f"{one['worker']} {one['source']}" for one in cast(list[Json], answer["producers"])]
    return rows, cast(list[str], answer["unanswered"])


def test_producers_are_gathered_from_every_worker_page_by_page(daemon: Daemon) -> None:
    daemon.until_joined()
    every = [f"{worker} s/{place}" for worker in (0, 1) for place in range(5)]
    assert producers(daemon) == (every, [])
    with ThreadPoolExecutor() as pool:
        at_once = [pool.submit(producers, daemon) for _ in range(20)]
        assert all(one.result() == (every, []) for one in at_once)
    (row, *_) = cast(list[Json], daemon.client.get("/v1/producers")["producers"])
    assert (row["since"], row["rejected"]) == ("1970-01-01T00:00:00.000Z", {"too-large": 1})
    assert row["ack_p50_seconds"] == pytest.approx(6e-9)


def test_a_worker_that_is_stopped_is_named_and_keeps_its_life(daemon: Daemon) -> None:
    daemon.until_joined()
    pid = daemon.pid("worker-1")
    os.kill(pid, signal.SIGSTOP)
    rows, unanswered = producers(daemon)
    assert (len(rows), unanswered) == (5, ["worker-1"])
    for _ in range(300):  # As many questions would fill its channel.
        assert producers(daemon)[1] == ["worker-1"]
    os.kill(pid, signal.SIGCONT)
    daemon.until(lambda daemon: producers(daemon)[1] == [])
    assert daemon.pid("worker-1") == pid


def test_a_worker_that_dies_while_it_tells_is_named(daemon: Daemon) -> None:
    daemon.until_joined()
    (daemon.directory / "worker-1").write_text("torn")
    rows, unanswered = producers(daemon)
    assert (rows[:5], unanswered) == ([f"0 s/{place}" for place in range(5)], ["worker-1"])
    (daemon.directory / "worker-1").unlink()
    daemon.until(lambda daemon: producers(daemon)[1] == [])
