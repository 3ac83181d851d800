"""`certeus pipe --follow` is killed, and so are the daemon's processes: each line is there once."""

import contextlib
import json
import random
import subprocess
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path

import pytest

from support import piping
from support.attack import Attack
from support.daemon import Daemon, running
from support.waiting import wait_until

pytestmark = [pytest.mark.crash, pytest.mark.integration]

AWAY = '[postgres]\ndsn = "postgresql://nobody@/none?host=/nonexistent"\n'


@contextlib.contextmanager
def begun(log: Path, *follow: str) -> Generator[Daemon]:
    """A daemon, and a pipe that was there once: it knows of all rotations from now on."""
    with running(AWAY) as daemon:
        log.touch()
        daemon.certeus("pipe", *follow, "--once")
        yield daemon


def positions(state: Path) -> object:
    """What the position file says; it is always whole."""
    with contextlib.suppress(FileNotFoundError):
        found = json.loads(state.read_bytes())
        return [(one["token"], one["position"]) for one in found["generations"]]
    return None


def wait_for_progress(state: Path) -> None:
    before = positions(state)
    wait_until("progress", lambda: positions(state) != before)


def test_a_pipe_that_is_killed_again_and_again_has_each_line_once_and_in_order(
    attack: Attack, tmp_path: Path
) -> None:
    log, state = tmp_path / "app.log", tmp_path / "state.json"
    chance = random.Random(attack.seed)
    follow = ("--follow", str(log), "--state", str(state), "--source", "killed")
    with begun(log, *follow) as daemon:
        with piping.Writer(log, rotate_every=700, pause_s=0.004) as writer:
            for _ in range(60 if attack.full else 10):
                with piping.pipe(daemon, *follow) as process:
                    wait_for_progress(state)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(chance.random() * 0.4)
                    process.kill()
                    process.wait(30)
        last = json.loads(daemon.certeus("pipe", *follow, "--once", "--json").stdout)
        assert last["lost"] == 0
        assert writer.rotations > 2
        assert piping.lines(daemon, "killed") == writer.expected()


@pytest.mark.parametrize("victim", ["worker", "log", "supervisor"])
def test_a_pipe_outlives_the_daemons_processes_and_has_each_line_once(
    victim: str, attack: Attack, tmp_path: Path
) -> None:
    log, state = tmp_path / "app.log", tmp_path / "state.json"
    follow = ("--follow", str(log), "--state", str(state), "--source", "outlives")
    with (
        begun(log, *follow) as daemon,
        piping.Writer(log, rotate_every=2000, pause_s=0.002) as writer,
        piping.pipe(daemon, *follow, "--json") as process,
    ):
        for _ in range(12 if attack.full else 4):
            wait_for_progress(state)
            wait_until(f"a {victim}", lambda: daemon.pids(victim))
            daemon.kill(victim)
            if victim == "supervisor":
                daemon.start()
        wait_for_progress(state)
        writer.stop()
        wait_until(
            "the end", lambda: piping.lines(daemon, "outlives")[-1:] == writer.expected()[-1:]
        )
        process.terminate()
        code, out, err = piping.ended(process)
        assert code == 0, err
        assert json.loads(out)["rejected"] == 0
        assert piping.lines(daemon, "outlives") == writer.expected()


def test_whatever_dies_and_when_each_line_is_there_once_and_in_order(
    attack: Attack, tmp_path: Path
) -> None:
    log, state = tmp_path / "app.log", tmp_path / "state.json"
    chance = random.Random(attack.seed)
    follow = ("--follow", str(log), "--state", str(state), "--source", "whatever", "--wait")
    with begun(log, *follow) as daemon:
        with piping.Writer(log, rotate_every=900, pause_s=0.003) as writer:
            for _ in range(40 if attack.full else 6):
                with piping.pipe(daemon, *follow) as process:
                    wait_for_progress(state)
                    victims = chance.sample(["worker", "log", "all"], 1)
                    order: list[Callable[[], object]] = [process.kill]
                    order += [partial(daemon.kill, one) for one in victims]
                    wait_until("a log writer", lambda: daemon.pids("log") and daemon.pids("worker"))
                    for kill in chance.sample(order, len(order)):
                        kill()
                    process.wait(30)
                if victims == ["all"]:
                    daemon.start()
        last = json.loads(daemon.certeus("pipe", *follow, "--once", "--json").stdout)
        assert (last["lost"], last["rejected"]) == (0, 0)
        assert piping.lines(daemon, "whatever") == writer.expected()
