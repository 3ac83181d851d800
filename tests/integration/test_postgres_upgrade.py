"""An embedded cluster of an older version: left alone, upgraded, killed amid that; no row lost.

The clusters are those of real daemons that ran with older binaries. Nothing stands for pg_upgrade.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import asyncpg
import psutil
import pytest

import certeus
from certeusd.supervisor.postgres_upgrade import name_of, settings_of
from support.daemon import Daemon, scratch_dir
from support.old_postgres import installations, old_daemon
from support.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

STEPS = ("1/6", "2/6", "3/6", "4/6", "5/6", "6/6")


@pytest.fixture
def root() -> Iterator[Path]:
    with scratch_dir() as folder:
        yield folder


@pytest.fixture(scope="module")
def prepared() -> Iterator[Path]:
    """Where old clusters are made, once each; a test has copies."""
    with scratch_dir() as folder:
        yield folder


def append(daemon: Daemon, first: int, last: int) -> None:
    with certeus.connect(daemon.ingest, source="upgrade") as producer:
        rows = [{"n": n} for n in range(first, last + 1)]
        producer.wait_durable(producer.append_many("t", rows), timeout=30.0)


def filled(prepared: Path, root: Path, major: str, *, kill: bool = False) -> None:
    """A daemon with that PostgreSQL has run here: 500 rows, five more in its log alone."""
    made = prepared / f"{major}-{'killed' if kill else 'stopped'}"
    if not made.exists():
        made.mkdir()
        fill(made, major, kill=kill)
    subprocess.run(["cp", "-a", made / "state", root], check=True)


def fill(root: Path, major: str, *, kill: bool) -> None:
    daemon = old_daemon(root, major)
    try:
        daemon.start()
        append(daemon, 1, 500)
        daemon.certeus("wait", "--flushed", "--timeout", "60")
        daemon.certeus("flush", "pause")
        append(daemon, 501, 505)
        if kill:
            pids = daemon.kill("all")
            # A postmaster whose number is still there, be it of a zombie, keeps its lock file.
            wait_until("end of all", lambda: not any(psutil.pid_exists(pid) for pid in pids))
        else:
            assert daemon.stop() == 0
    finally:
        daemon.clean_up()
    assert (root / "state/postgres/data/PG_VERSION").read_text().strip() == major


def rows(daemon: Daemon) -> list[int]:
    async def ask() -> list[int]:
        connection = await asyncpg.connect(daemon.dsn())
        try:
            found = await connection.fetch(
                "SELECT (data->>'n')::int AS n FROM certeus.events ORDER BY seq"
            )
            return [row["n"] for row in found]
        finally:
            await connection.close()

    return asyncio.run(ask())


def all_is_there(daemon: Daemon) -> None:
    """The daemon starts on what the upgrade left, and delivers on: each row once, in order."""
    try:
        daemon.start()
        append(daemon, 506, 700)
        daemon.certeus("wait", "--flushed", "--timeout", "60")
        assert rows(daemon) == list(range(1, 701))
        assert daemon.status()["postgres"]["version"].startswith("18.")
        assert daemon.status()["reasons"] == []
        assert daemon.stop() == 0
    finally:
        daemon.clean_up()


def leftovers(root: Path) -> list[str]:
    """Processes whose directory is below `root`, and what an upgrade leaves half made."""
    found = [path.name for path in (root / "state").glob("postgres.upgrade*")]
    for process in psutil.process_iter(["name", "cwd"]):
        if process.info["cwd"] and process.info["cwd"].startswith(str(root)):
            found.append(str(process.info["name"]))
    return found


@pytest.mark.parametrize("major", sorted(installations()))
def test_a_cluster_is_upgraded_with_every_row_and_delivery_goes_on(
    prepared: Path, root: Path, major: str
) -> None:
    filled(prepared, root, major, kill=major == "16")
    conf = root / "state/postgres/data/postgresql.conf"
    # One that is carried over, and one that 18 does not know any more.
    old = {"15": "vacuum_defer_cleanup_age = 5\n", "16": "old_snapshot_threshold = 5\n"}[major]
    own = f"work_mem = 7MB  # mine\n{old}"
    conf.write_text(conf.read_text() + own)
    daemon = Daemon(root)
    # Before the upgrade: it runs, takes events, touches nothing, and says what to do.
    try:
        daemon.start()
        reasons = {one["code"]: one for one in daemon.status()["reasons"]}
        told = reasons["postgres-version"]
        assert f"made by PostgreSQL {major}, this certeus brings 18" in told["what"]
        assert "certeus postgres upgrade" in told["next"]
        assert daemon.status()["postgres"]["state"] == "away"
        # It runs: nothing is done beside it.
        refused = daemon.certeus("postgres", "upgrade", code=75).stderr
        assert str(daemon.process.pid if daemon.process else 0).encode() in refused
        assert daemon.stop() == 0
    finally:
        daemon.clean_up()
    assert (root / "state/postgres/data/PG_VERSION").read_text().strip() == major
    answer = json.loads(daemon.certeus("postgres", "upgrade", "--json").stdout)
    assert (answer["upgraded"], answer["from"]) == (True, major)
    (kept,) = answer["kept"]
    assert kept == str(root / f"state/postgres.before-upgrade-{major}")
    assert (Path(kept) / "data/PG_VERSION").read_text().strip() == major
    carried = settings_of(root / "state/postgres/data")
    assert "work_mem = 7MB  # mine" in carried
    assert name_of(old) not in {name_of(line) for line in carried}
    assert not list((root / "state/postgres").glob("*.sh"))
    assert leftovers(root) == []
    again = json.loads(daemon.certeus("postgres", "upgrade", "--json").stdout)
    assert (again["upgraded"], again["kept"]) == (False, [kept])
    all_is_there(daemon)
    deleted = daemon.certeus("postgres", "upgrade", "--delete-old").stdout.decode()
    assert f"removed {kept}" in deleted
    assert not Path(kept).exists()
    all_rows_again = Daemon(root).start()
    try:
        assert rows(all_rows_again) == list(range(1, 701))
    finally:
        all_rows_again.clean_up()


def kill_at(daemon: Daemon, step: str, *options: str) -> bool:
    """Run the upgrade and SIGKILL it when it says that a step begins; whether it did say so."""
    with subprocess.Popen(
        [sys.executable, "-m", "certeusd.cli", "--runtime-dir", str(daemon.runtime_dir),
         "--state-dir", str(daemon.state_dir), "postgres", "upgrade", *options],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith(step):
                # Amid the step, not before it: its first program has begun.
                if step != "1/6":
                    wait_until("program", lambda: psutil.Process(process.pid).children() or
                               process.poll() is not None)  # fmt: skip
                process.kill()
                return True
    return False


@pytest.mark.parametrize(
    ("options", "steps"),
    # By links it is another only from the fifth step on.
    [([], STEPS), (["--link"], STEPS[4:])],
    ids=["copied", "linked"],
)
def test_an_upgrade_killed_in_any_step_is_run_again_to_its_end(
    prepared: Path, root: Path, options: list[str], steps: Sequence[str]
) -> None:
    filled(prepared, root, "15", kill=True)
    daemon = Daemon(root)
    for step in steps:
        assert kill_at(daemon, step, *options), step
        found = (daemon.state_dir / "postgres/data/PG_VERSION").read_text().strip()
        assert found == "15", step
    told = daemon.certeus("postgres", "upgrade", *options)
    assert b"PostgreSQL 15 is now 18" in told.stdout
    assert leftovers(root) == []
    all_is_there(daemon)


def test_a_death_between_exchange_and_rename_is_finished_by_the_next_run(
    prepared: Path, root: Path
) -> None:
    filled(prepared, root, "15")
    daemon = Daemon(root)
    daemon.certeus("postgres", "upgrade")
    kept = daemon.state_dir / "postgres.before-upgrade-15"
    kept.rename(daemon.state_dir / "postgres.upgrade")
    told = daemon.certeus("postgres", "upgrade")
    assert b"already" in told.stdout
    assert (kept / "data/PG_VERSION").read_text().strip() == "15"
    all_is_there(daemon)


def test_what_cannot_be_upgraded_is_told_and_left_as_it_is(prepared: Path, root: Path) -> None:
    daemon = Daemon(root)
    assert b"nothing to do" in daemon.certeus("postgres", "upgrade").stdout
    filled(prepared, root, "15")
    told = daemon.certeus("postgres", "upgrade", "--old-bindir", "/usr/bin", code=78).stderr
    assert b"--old-bindir" in told
    data = daemon.state_dir / "postgres/data"
    (data / "PG_VERSION").write_text("99\n")
    assert b"a later one" in daemon.certeus("postgres", "upgrade", code=78).stderr
    (data / "PG_VERSION").write_text("15\n")
    control = data / "global/pg_control"
    whole = control.read_bytes()
    control.write_bytes(bytes(len(whole)))
    told = daemon.certeus("postgres", "upgrade", code=1).stderr
    assert b"the old cluster is whole and in its place" in told
    control.write_bytes(whole)
    daemon.certeus("postgres", "upgrade")
    all_is_there(daemon)
